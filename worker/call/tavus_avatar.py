"""A Tavus avatar that speaks with the agent's voice. The voice never depends on it.

The plugin (livekit-plugins-tavus 1.8.9) has defects for a call:

- It routes the agent's audio to the avatar as soon as Tavus accepts the request.
- It waits for the avatar without a limit.
- It never ends a conversation, which is billed and holds a seat until it times out.
- It repeats a request whose answer was lost, so that a second conversation may be open.

So this module bounds every step. It routes the audio to the avatar once that has joined, and back to the room when the
avatar leaves or stalls. It creates and ends the conversation itself (`worker.tavus_api`).
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from livekit import rtc
from livekit.agents import AgentSession, APIStatusError
from livekit.agents.voice.io import AudioOutput
from livekit.plugins import tavus

from agentspec import TavusSpec
from agentspec.wire import CallOutcome
from worker import sdk
from worker.call import budget
from worker.call.avatar_seat import NO_SEAT, AvatarSeat
from worker.call.avatar_watch import AvatarWatch
from worker.call.metrics import AvatarOutcome
from worker.call.pausable_output import PausableOutput
from worker.call.watched_output import WatchedOutput
from worker.tavus_api import ConversationRequest, TavusAPI

logger = logging.getLogger(__name__)

_END_ATTEMPTS: Final = 2
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


class TavusAvatar:
    """One call's avatar. Call `start`, then `attach`; `on_lost` is called when it leaves or stalls afterwards."""

    def __init__(
        self,
        session: AgentSession[None],
        room: rtc.Room,
        spec: TavusSpec,
        *,
        request: ConversationRequest,
        api: TavusAPI,
        seat: AvatarSeat,
        livekit_url: str,
        on_lost: Callable[[AvatarOutcome, str], None],
    ) -> None:
        self._session = session
        self._room = room
        self._request = request
        self._api = api
        self._seat = seat
        self._livekit_url = livekit_url
        self._on_lost = on_lost
        self._capture = sdk.AvatarOutputCapture(session)
        self._tavus = tavus.AvatarSession(
            face_id=spec.face_id, pal_id=spec.pal_id, api_url=spec.base_url, api_key="unused: the request has it"
        )
        sdk.set_tavus_api(self._tavus, request)
        self._is_left_open = False
        self._starting: asyncio.Task[None] | None = None
        self._room_output: AudioOutput | None = None
        self._watch: AvatarWatch | None = None
        self._closing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Request the avatar and wait until it has published its video; raises AvatarError."""
        self._starting = asyncio.create_task(self._start(), name="tavus_start")
        await asyncio.wait({self._starting}, timeout=budget.AVATAR_START_SECONDS)
        if not self._starting.done():
            raise AvatarError(AvatarOutcome.REFUSED, f"Tavus did not answer within {budget.AVATAR_START_SECONDS:g} s")
        if (error := self._starting.exception()) is not None:
            raise AvatarError(AvatarOutcome.REFUSED, _refusal(error)) from error
        if not await self._seat.is_kept(self._tavus.conversation_id or ""):
            raise AvatarError(AvatarOutcome.REFUSED, NO_SEAT, CallOutcome.NO_AVATAR_SEAT)
        self._room.on("participant_disconnected", self._on_disconnected)
        try:
            await self._tavus.wait_for_join(timeout=budget.AVATAR_JOIN_SECONDS)
        except TimeoutError:
            raise AvatarError(
                AvatarOutcome.NEVER_JOINED, f"the avatar did not join within {budget.AVATAR_JOIN_SECONDS:g} s"
            ) from None
        except Exception as error:
            reason = f"waiting for the avatar failed: {type(error).__name__}"
            raise AvatarError(AvatarOutcome.NEVER_JOINED, reason) from error

    async def _start(self) -> None:
        await self._tavus.start(
            cast("AgentSession[None]", self._capture), room=self._room, livekit_url=self._livekit_url
        )

    async def attach(self) -> None:
        """Route the agent's audio to the avatar, once the agent has finished its current speech."""
        while (speech := self._session.current_speech) is not None:
            await speech.wait_for_playout()
            await asyncio.sleep(_SPEECH_POLL_SECONDS)  # a finished speech stays the current one for a moment
        if self._closing is not None or self._session.output.audio is None:
            return  # the avatar is closing, or the session has closed
        assert self._capture.sink is not None
        self._room_output = sdk.last_output(self._session.output.audio)
        late = "the avatar did not report in time what it played"
        output = WatchedOutput(self._capture.sink, on_stalled=partial(self._on_stalled, late))
        self._session.output.replace_audio_tail(PausableOutput(output))
        self._watch = AvatarWatch(
            self._room, self._tavus.avatar_identity, speech_is_due=output.is_due, on_stalled=self._on_stalled
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
        """End the conversation, which frees the seat and stops the bill; returns whether none can be open.

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
            # Tavus may still accept the request, and the answer has the id of the conversation to end.
            await asyncio.wait({self._starting}, timeout=budget.AVATAR_CLOSE_SECONDS)
            self._starting.cancel()
        if self._tavus.conversation_id is not None:
            await self._end_conversation(self._tavus.conversation_id)
        elif self._request.may_be_open:
            self._is_left_open = True
            logger.warning("answer of Tavus was lost, a conversation may be open")
        sdk.stop_waiting_for_avatar(self._capture.sink)
        try:
            await asyncio.wait_for(self._tavus.aclose(), budget.AVATAR_CLOSE_SECONDS)
        except Exception as error:
            logger.warning("avatar not closed cleanly", extra={"error": type(error).__name__})

    async def _end_conversation(self, conversation: str) -> None:
        error = await self._api.end(conversation, attempts=_END_ATTEMPTS, seconds=budget.AVATAR_CLOSE_SECONDS)
        if not error:
            logger.info("avatar conversation ended", extra={"conversation_id": conversation})
            return
        self._is_left_open = True
        logger.error(
            "could not end avatar conversation, the worker retries",
            extra={"conversation_id": conversation, "error": error},
        )

    def _on_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._tavus.avatar_identity:
            asyncio.get_running_loop().call_later(budget.AVATAR_LEFT_SECONDS, self._on_left)

    def _on_left(self) -> None:
        if self._closing is None and self._room.isconnected():
            self._on_lost(AvatarOutcome.LEFT, "the avatar left the room")

    def _on_stalled(self, reason: str) -> None:
        self._on_lost(AvatarOutcome.STALLED, reason)


def _refusal(error: BaseException) -> str:
    """Return why Tavus refused, without the body of its answer, which may quote the request."""
    if not isinstance(error, APIStatusError):
        return f"Tavus is unreachable: {type(error).__name__}"
    if "maximum concurrent" in str(error.body).lower():
        return "Tavus has no free seat: the account's maximum of concurrent conversations is reached"
    hints = {
        400: "check faceID and palID",
        401: "check the apiKey of the Tavus Secret",
        402: "check the account's balance",
        403: "check the apiKey of the Tavus Secret",
        429: "too many requests",
    }
    hint = hints.get(error.status_code, "see Tavus' status page")
    return f"Tavus answered HTTP {error.status_code}: {hint}"
