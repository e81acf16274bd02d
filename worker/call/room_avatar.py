"""An avatar in the room that speaks with the agent's voice. The voice never depends on it.

Avatar plugins of livekit-agents 1.8.9 have defects for a call:

- They route the agent's audio to the avatar as soon as the provider accepts the request.
- They wait for the avatar without a limit.

So this module bounds every step, whatever the provider is. It routes the audio to the avatar once that has joined, and
back to the room when the avatar leaves or stalls.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice.io import AudioOutput

from agentspec.wire import CallOutcome
from worker import sdk
from worker.call import budget
from worker.call.avatar_seat import NO_SEAT
from worker.call.avatar_watch import AvatarWatch
from worker.call.avatars.provider import ProviderAvatar
from worker.call.metrics import AvatarOutcome
from worker.call.pausable_output import PausableOutput
from worker.call.watched_output import WatchedOutput

logger = logging.getLogger(__name__)

_SPEECH_POLL_SECONDS: Final = 0.05


class AvatarError(Exception):
    """The avatar failed to start. The message is the reason, for people."""

    def __init__(
        self, outcome: AvatarOutcome, reason: str, call_outcome: CallOutcome = CallOutcome.AVATAR_FAILED
    ) -> None:
        """`call_outcome` is that of a call that does not continue without its avatar."""
        super().__init__(reason)
        self.outcome = outcome
        self.call_outcome = call_outcome


class RoomAvatar:
    """One call's avatar. Call `start`, then `attach`; `on_lost` is called when it leaves or stalls afterwards."""

    def __init__(
        self,
        session: AgentSession[None],
        room: rtc.Room,
        provider: ProviderAvatar,
        *,
        on_lost: Callable[[AvatarOutcome, str], None],
    ) -> None:
        self._session = session
        self._room = room
        self._provider = provider
        self._on_lost = on_lost
        self._capture = sdk.AvatarOutputCapture(session)
        self._is_left_open = False
        self._starting: asyncio.Task[None] | None = None
        self._room_output: AudioOutput | None = None
        self._watch: AvatarWatch | None = None
        self._closing: asyncio.Task[None] | None = None

    async def has_seat(self) -> bool:
        """Return whether a seat is free, before the avatar is requested."""
        return await self._provider.has_seat()

    async def start(self) -> None:
        """Request the avatar and wait until it has published its video; raises AvatarError."""
        self._starting = asyncio.create_task(self._start(), name="avatar_start")
        await asyncio.wait({self._starting}, timeout=budget.AVATAR_START_SECONDS)
        if not self._starting.done():
            reason = f"{self._provider.provider} did not answer within {budget.AVATAR_START_SECONDS:g} s"
            raise AvatarError(AvatarOutcome.REFUSED, reason)
        if (error := self._starting.exception()) is not None:
            raise AvatarError(AvatarOutcome.REFUSED, self._provider.refusal(error)) from error
        if self._capture.sink is None:  # the plugin logs its error instead of raising it
            reason = f"{self._provider.provider} started no avatar, see the worker's log"
            raise AvatarError(AvatarOutcome.REFUSED, reason)
        if not await self._provider.keeps_seat():
            raise AvatarError(AvatarOutcome.REFUSED, NO_SEAT, CallOutcome.NO_AVATAR_SEAT)
        self._room.on("participant_disconnected", self._on_disconnected)
        try:
            await self._provider.wait_for_join(timeout=budget.AVATAR_JOIN_SECONDS)
        except TimeoutError:
            raise AvatarError(
                AvatarOutcome.NEVER_JOINED, f"the avatar did not join within {budget.AVATAR_JOIN_SECONDS:g} s"
            ) from None
        except Exception as error:
            reason = f"waiting for the avatar failed: {type(error).__name__}"
            raise AvatarError(AvatarOutcome.NEVER_JOINED, reason) from error

    async def _start(self) -> None:
        await self._provider.start(cast("AgentSession[None]", self._capture), self._room)

    async def attach(self) -> None:
        """Route the agent's audio to the avatar, once the agent has finished its current speech."""
        while (speech := self._session.current_speech) is not None:
            await speech.wait_for_playout()
            await asyncio.sleep(_SPEECH_POLL_SECONDS)  # a finished speech stays the current one for a moment
        if self._closing is not None or self._session.output.audio is None:
            return  # the avatar is closing, or the session has closed
        assert self._capture.sink is not None, "else `start` has failed"
        self._room_output = sdk.last_output(self._session.output.audio)
        late = "the avatar did not report in time what it played"
        output = WatchedOutput(self._capture.sink, on_stalled=partial(self._on_stalled, late))
        self._session.output.replace_audio_tail(PausableOutput(output))
        self._watch = AvatarWatch(
            self._room, self._provider.identity, speech_is_due=output.is_due, on_stalled=self._on_stalled
        )
        self._watch.start()

    def detach(self) -> bool:
        """Route the agent's audio to the room again; returns whether it went to the avatar until now."""
        self._stop_watching()
        output, self._room_output = self._room_output, None
        if output is None or self._session.output.audio is None:
            return False
        self._session.output.replace_audio_tail(output)
        return True

    async def close(self) -> bool:
        """End the avatar, which frees its seat and stops the bill; returns whether none can be open.

        Returns in bounded time. Repeated calls do nothing more.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="avatar_close")
        await asyncio.shield(self._closing)
        return not self._is_left_open

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()

    async def _close(self) -> None:
        self._stop_watching()
        self._room.off("participant_disconnected", self._on_disconnected)
        if self._starting is not None and not self._starting.done():
            # The provider may still accept the request, and its answer says what to end.
            await asyncio.wait({self._starting}, timeout=budget.AVATAR_CLOSE_SECONDS)
            self._starting.cancel()
        self._is_left_open = not await self._provider.end()
        sdk.stop_waiting_for_avatar(self._capture.sink)
        try:
            await asyncio.wait_for(self._provider.aclose(), budget.AVATAR_CLOSE_SECONDS)
        except Exception as error:
            logger.warning("avatar not closed cleanly", extra={"error": type(error).__name__})

    def _on_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._provider.identity:
            asyncio.get_running_loop().call_later(budget.AVATAR_LEFT_SECONDS, self._on_left)

    def _on_left(self) -> None:
        if self._closing is None and self._room.isconnected():
            self._on_lost(AvatarOutcome.LEFT, "the avatar left the room")

    def _on_stalled(self, reason: str) -> None:
        self._on_lost(AvatarOutcome.STALLED, reason)
