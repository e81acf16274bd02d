"""The agent's face: a Tavus avatar that is shown what the agent says. The voice never depends on it.

The plugin (livekit-plugins-tavus 1.8.9) points the agent's audio at the avatar as soon as Tavus accepts the request,
waits for the avatar without a limit, and never ends a conversation, which is billed and holds a seat until its time
is up. So here every step is bounded, the room keeps the agent's audio until the avatar has joined and gets it back
when the avatar is gone or stands still, and the conversation is ended over Tavus' API (`POST
/v2/conversations/{id}/end`, Tavus API reference).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

import aiohttp
from livekit import rtc
from livekit.agents import AgentSession, APIConnectOptions, APIStatusError, utils
from livekit.agents.voice.io import AudioOutput
from livekit.plugins import tavus

from agentspec import TavusSpec
from worker import sdk
from worker.call.metrics import AvatarOutcome
from worker.call.watched_output import WatchedOutput

logger = logging.getLogger(__name__)

START_SECONDS: Final = 10.0
"""How long Tavus may take to accept a conversation."""
JOIN_SECONDS: Final = 20.0
"""How long an accepted avatar may take to join the room and show its video."""
_CLOSE_SECONDS: Final = 4.0
_END_ATTEMPTS: Final = 2
_SETTLING_SECONDS: Final = 0.05


class AvatarError(Exception):
    """The avatar does not come. The message says why, in words for a person."""

    def __init__(self, outcome: AvatarOutcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class Avatar:
    """One call's avatar. `bring` it, then `show` it; `on_lost` is called when it leaves or stands still later."""

    def __init__(
        self,
        session: AgentSession[None],
        room: rtc.Room,
        spec: TavusSpec,
        *,
        key: str,
        livekit_url: str,
        on_lost: Callable[[AvatarOutcome, str], None],
    ) -> None:
        self._session = session
        self._room = room
        self._spec = spec
        self._key = key
        self._livekit_url = livekit_url
        self._on_lost = on_lost
        self._capture = sdk.AvatarOutputCapture(session)
        self._tavus = tavus.AvatarSession(
            face_id=spec.face_id,
            pal_id=spec.pal_id,
            api_url=spec.base_url,
            api_key=key,
            conn_options=APIConnectOptions(max_retry=1, retry_interval=0.5, timeout=5.0),
        )
        self._starting: asyncio.Task[None] | None = None
        self._room_output: AudioOutput | None = None
        self._closing: asyncio.Task[None] | None = None

    async def bring(self) -> None:
        """Ask for the avatar and wait until it shows its video; raises AvatarError."""
        self._starting = asyncio.create_task(self._start(), name="tavus_start")
        await asyncio.wait({self._starting}, timeout=START_SECONDS)
        if not self._starting.done():
            raise AvatarError(AvatarOutcome.REFUSED, f"Tavus did not answer within {START_SECONDS:g} s")
        if (error := self._starting.exception()) is not None:
            raise AvatarError(AvatarOutcome.REFUSED, _refusal(error)) from error
        self._room.on("participant_disconnected", self._on_disconnected)
        try:
            await self._tavus.wait_for_join(timeout=JOIN_SECONDS)
        except TimeoutError:
            raise AvatarError(
                AvatarOutcome.NEVER_JOINED, f"the avatar did not join within {JOIN_SECONDS:g} s"
            ) from None
        except Exception as error:
            reason = f"waiting for the avatar failed: {type(error).__name__}"
            raise AvatarError(AvatarOutcome.NEVER_JOINED, reason) from error

    async def _start(self) -> None:
        await self._tavus.start(
            cast("AgentSession[None]", self._capture), room=self._room, livekit_url=self._livekit_url
        )

    async def show(self) -> None:
        """Lead the agent's audio through the avatar, once the agent has finished what it is saying."""
        while (speech := self._session.current_speech) is not None:
            await speech.wait_for_playout()
            await asyncio.sleep(_SETTLING_SECONDS)  # a finished speech stays the current one for a moment
        assert self._capture.sink is not None and self._session.output.audio is not None
        if self._closing is not None:
            return
        self._room_output = sdk.last_output(self._session.output.audio)
        self._session.output.replace_audio_tail(WatchedOutput(self._capture.sink, on_stalled=self._stalled))

    def hide(self) -> bool:
        """Lead the agent's audio to the room again; returns whether it went through the avatar until now."""
        output, self._room_output = self._room_output, None
        if output is None or self._session.output.audio is None:
            return False
        self._session.output.replace_audio_tail(output)
        return True

    async def close(self) -> None:
        """End the conversation, so that the seat is free and nobody pays on. Bounded; closing twice is closing once."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="avatar_close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._room.off("participant_disconnected", self._on_disconnected)
        if self._starting is not None and not self._starting.done():
            # Tavus may still accept, and would charge for a conversation that nobody knows of.
            await asyncio.wait({self._starting}, timeout=_CLOSE_SECONDS)
            self._starting.cancel()
        if self._tavus.conversation_id is not None:
            await self._end_conversation(self._tavus.conversation_id)
        sdk.stop_waiting_for_avatar(self._capture.sink)
        try:
            await asyncio.wait_for(self._tavus.aclose(), _CLOSE_SECONDS)
        except Exception as error:
            logger.warning("avatar not closed cleanly", extra={"error": type(error).__name__})

    async def _end_conversation(self, conversation: str) -> None:
        url = f"{self._spec.base_url.rstrip('/')}/conversations/{conversation}/end"
        reason = ""
        for _ in range(_END_ATTEMPTS):
            try:
                async with utils.http_context.http_session().post(
                    url,
                    headers={"x-api-key": self._key},
                    timeout=aiohttp.ClientTimeout(total=_CLOSE_SECONDS / _END_ATTEMPTS),
                ) as response:
                    if response.ok:
                        logger.info("avatar conversation ended", extra={"conversation": conversation})
                        return
                    reason = f"HTTP {response.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = type(error).__name__
        logger.error(
            "avatar conversation not ended: Tavus bills it until it times out",
            extra={"conversation": conversation, "reason": reason},
        )

    def _on_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._tavus.avatar_identity:
            self._on_lost(AvatarOutcome.LEFT, "the avatar left the room")

    def _stalled(self) -> None:
        self._on_lost(AvatarOutcome.STALLED, "the avatar did not play what it was given")


def _refusal(error: BaseException) -> str:
    """What Tavus said, without its answer's body: it may quote the request."""
    if not isinstance(error, APIStatusError):
        return f"Tavus cannot be reached: {type(error).__name__}"
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
