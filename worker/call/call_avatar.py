"""The avatar of one call: starts it, and continues by voice or ends the call when it fails."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from livekit import rtc
from livekit.agents import AgentSession

from agentspec import OnAvatarFailure
from agentspec.wire import CallOutcome, DispatchMetadata
from worker.avatar_reports import AvatarState
from worker.call import budget, metrics
from worker.call.avatar_seat import NO_SEAT
from worker.call.avatars.provider import ProviderAvatar
from worker.call.caller import Caller
from worker.call.metrics import AvatarOutcome
from worker.call.room_avatar import AvatarError, RoomAvatar

logger = logging.getLogger(__name__)


async def has_video(call: DispatchMetadata, caller: Caller) -> bool:
    """Return whether the caller can see an avatar, as early as that is known: a telephone is known when it joins."""
    if call.has_video is not None:
        return call.has_video
    await caller.joined()
    return not caller.is_telephone


class CallAvatar:
    """The avatar of one call, or none."""

    def __init__(
        self,
        session: AgentSession[None],
        room: rtc.Room,
        provider: ProviderAvatar | None,
        policy: OnAvatarFailure,
        *,
        has_seat: bool,
        has_video: Callable[[], Awaitable[bool]],
        end_call: Callable[[CallOutcome, str], None],
        repeat_speech: Callable[[], None],
        report: Callable[[AvatarState, str], None],
    ) -> None:
        """Prepare the avatar that the agent declares; `provider` is None when it declares none.

        `policy` is what happens without the avatar. `has_seat` is False when the gateway found no free seat for this
        call. `has_video` returns whether the caller can see an avatar, once that is known. `repeat_speech` says by
        voice what a lost avatar did not play. `report` receives each state of the avatar, and the error of a failed
        one.
        """
        self._session = session
        self._room = room
        self._policy = policy
        self._end_call = end_call
        self._repeat_speech = repeat_speech
        self._report = report
        self._decided = asyncio.Event()
        self._lost: asyncio.Task[None] | None = None
        self._avatar = RoomAvatar(session, room, provider, on_lost=self._on_lost) if provider and has_seat else None
        self._has_joined = False
        self._counts_end = False
        """The avatar was requested, and its end is not counted yet."""
        self._is_declared = provider is not None
        self._has_video = has_video

    async def run(self) -> None:
        """Start the avatar and route the agent's audio through it; does nothing when the call has no avatar.

        A caller without video has a call by voice, which is no failure of the avatar.
        """
        if not self._is_declared:
            return
        if not await self._has_video():
            logger.info("no avatar: the caller has no video")
            self._give_up()
            return
        if (avatar := self._avatar) is None:
            self._continue_without_seat()
            return
        try:
            if await avatar.has_seat():
                await self._join(avatar)
            else:
                self._continue_without_seat()
        except AvatarError as error:
            await self._on_start_failed(avatar, error.outcome, str(error), error.call_outcome)
        except Exception as error:  # the voice must survive any error of the avatar
            logger.exception("avatar failed unexpectedly")
            reason = f"internal error: {type(error).__name__}"
            await self._on_start_failed(avatar, AvatarOutcome.REFUSED, reason)

    async def _join(self, avatar: RoomAvatar) -> None:
        """Start the avatar, and route the agent's audio through it. Raises what the avatar raises."""
        started = time.monotonic()
        self._counts_end = True
        metrics.AVATARS_STARTED.inc()
        await avatar.start()
        self._has_joined = True
        metrics.AVATAR_JOIN_DURATION.observe(time.monotonic() - started)
        await avatar.attach()
        self._decided.set()
        self._report(AvatarState.JOINED, "")
        logger.info("avatar joined", extra={"seconds": round(time.monotonic() - started, 3)})

    def _continue_without_seat(self) -> None:
        self._give_up()
        self._fail("no_seat", CallOutcome.NO_AVATAR_SEAT, NO_SEAT)

    def _give_up(self) -> None:
        """Continue without an avatar, before one was requested."""
        if self._avatar is not None:
            self._report(AvatarState.RELEASED, "")
        self._avatar = None
        self._decided.set()

    async def wait_until_decided(self) -> None:
        """Wait until the avatar has joined or failed, at most AVATAR_GREETING_SECONDS."""
        if self._avatar is None:
            return
        try:
            await asyncio.wait_for(self._decided.wait(), budget.AVATAR_GREETING_SECONDS)
        except TimeoutError:
            logger.info(
                "greeting by voice: the avatar has not joined yet", extra={"seconds": budget.AVATAR_GREETING_SECONDS}
            )

    async def close(self) -> None:
        """Release the avatar at the end of the call. Returns in bounded time."""
        if self._avatar is not None:
            self._count_end(AvatarOutcome.COMPLETED if self._has_joined else AvatarOutcome.CANCELLED)
            await self._release(self._avatar)

    async def _on_start_failed(
        self,
        avatar: RoomAvatar,
        outcome: AvatarOutcome,
        reason: str,
        call_outcome: CallOutcome = CallOutcome.AVATAR_FAILED,
    ) -> None:
        self._decided.set()
        if not self._room.isconnected():
            return  # the call ended before the avatar joined; `close` follows
        if call_outcome is not CallOutcome.NO_AVATAR_SEAT:  # which the controller counts itself
            self._report(AvatarState.FAILED, reason)
        await self._continue_without(avatar, outcome, reason, call_outcome)

    def _on_lost(self, outcome: AvatarOutcome, reason: str) -> None:
        if self._avatar is None or self._lost is not None:
            return
        speaking = self._session.agent_state == "speaking"
        unheard = self._avatar.detach() and speaking
        self._lost = asyncio.create_task(self._continue_without(self._avatar, outcome, reason), name="avatar_lost")
        if unheard and self._policy is OnAvatarFailure.VOICE_ONLY:
            self._repeat_speech()

    async def _continue_without(
        self,
        avatar: RoomAvatar,
        outcome: AvatarOutcome,
        reason: str,
        call_outcome: CallOutcome = CallOutcome.AVATAR_FAILED,
    ) -> None:
        self._count_end(outcome)
        self._fail(outcome, call_outcome, reason)
        await self._release(avatar)

    def _count_end(self, outcome: AvatarOutcome) -> None:
        """Count the end of a requested avatar. The first outcome counts."""
        if self._counts_end:
            self._counts_end = False
            metrics.AVATARS_ENDED.labels(outcome).inc()

    def _fail(self, outcome: str, call_outcome: CallOutcome, reason: str) -> None:
        """Log the failure; end the call when `avatar.onFailure` is EndCall."""
        logger.warning("avatar failed", extra={"outcome": outcome, "reason": reason, "on_failure": self._policy})
        if self._policy is OnAvatarFailure.END_CALL:
            self._end_call(call_outcome, f"{reason}, and avatar.onFailure is EndCall")

    async def _release(self, avatar: RoomAvatar) -> None:
        self._report(AvatarState.RELEASED if await avatar.close() else AvatarState.ABANDONED, "")
