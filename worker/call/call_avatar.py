"""What a call does about its avatar: shows it when it comes, goes on by voice or ends when it does not."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import Final

from livekit import rtc
from livekit.agents import AgentSession

from agentspec import AvatarProvider, OnAvatarFailure
from agentspec.wire import CallOutcome, WorkerConfig
from worker.avatar_reports import AvatarState
from worker.call import metrics
from worker.call.metrics import AvatarOutcome
from worker.call.tavus_avatar import Avatar, AvatarError

logger = logging.getLogger(__name__)

SEEN_SECONDS: Final = 2.0
"""How long the greeting waits for the avatar once the caller can hear: voice first."""


class Face:
    """The avatar of one call, or none."""

    def __init__(
        self,
        session: AgentSession[None],
        room: rtc.Room,
        config: WorkerConfig,
        *,
        seat: bool,
        end_call: Callable[[CallOutcome, str], None],
        say_again: Callable[[], None],
        tell: Callable[[AvatarState, str], None],
    ) -> None:
        """`seat` says whether the call may have an avatar; `tell` is told what becomes of it."""
        self._session = session
        self._room = room
        self._policy = config.avatar.on_failure
        self._end_call = end_call
        self._say_again = say_again
        self._tell = tell
        self._settled = asyncio.Event()
        self._lost: asyncio.Task[None] | None = None
        self._avatar: Avatar | None = None
        declared = config.avatar.provider is AvatarProvider.TAVUS
        self._lacks_seat = declared and not seat
        if declared and seat and config.avatar.tavus is not None:
            self._avatar = Avatar(
                session,
                room,
                config.avatar.tavus,
                key=os.environ["TAVUS_API_KEY"],
                livekit_url=config.livekit_url,
                on_lost=self._on_lost,
            )

    async def run(self) -> None:
        """Bring the avatar and show it; without one, nothing."""
        if self._lacks_seat:
            self._fail(AvatarOutcome.NO_SEAT, CallOutcome.NO_AVATAR_SEAT, "no avatar seat is free (avatar.maxSessions)")
        if self._avatar is None:
            return
        started = time.monotonic()
        try:
            await self._avatar.bring()
            await self._avatar.show()
        except AvatarError as error:
            await self._not_come(self._avatar, error.outcome, str(error))
            return
        except Exception as error:  # whatever it is, the voice goes on
            logger.exception("avatar failed unexpectedly")
            await self._not_come(self._avatar, AvatarOutcome.REFUSED, f"internal error: {type(error).__name__}")
            return
        self._settled.set()
        self._tell(AvatarState.CAME, "")
        metrics.AVATARS.labels(AvatarOutcome.JOINED).inc()
        logger.info("avatar joined", extra={"seconds": round(time.monotonic() - started, 3)})

    async def settled(self) -> None:
        """Wait until the avatar is shown or known not to come, but only shortly."""
        if self._avatar is None:
            return
        try:
            await asyncio.wait_for(self._settled.wait(), SEEN_SECONDS)
        except TimeoutError:
            logger.info("greeting by voice: the avatar is not there yet", extra={"seconds": SEEN_SECONDS})

    async def close(self) -> None:
        """End the avatar with the call. Bounded."""
        if self._avatar is not None:
            await self._release(self._avatar)

    async def _not_come(self, avatar: Avatar, outcome: AvatarOutcome, reason: str) -> None:
        self._settled.set()
        if not self._room.isconnected():
            return  # the call was over before the avatar came: `close` follows
        self._tell(AvatarState.FAILED, reason)
        await self._do_without(avatar, outcome, reason)

    def _on_lost(self, outcome: AvatarOutcome, reason: str) -> None:
        if self._avatar is None or self._lost is not None:
            return
        speaking = self._session.agent_state == "speaking"
        unheard = self._avatar.hide() and speaking
        self._lost = asyncio.create_task(self._do_without(self._avatar, outcome, reason), name="avatar_lost")
        if unheard and self._policy is OnAvatarFailure.VOICE_ONLY:
            self._say_again()

    async def _do_without(self, avatar: Avatar, outcome: AvatarOutcome, reason: str) -> None:
        self._fail(outcome, CallOutcome.AVATAR_FAILED, reason)
        await self._release(avatar)

    def _fail(self, outcome: AvatarOutcome, ending: CallOutcome, reason: str) -> None:
        """Count and log it, and end the call where that is declared."""
        metrics.AVATARS.labels(outcome).inc()
        logger.warning("avatar failed", extra={"outcome": outcome, "reason": reason, "on_failure": self._policy})
        if self._policy is OnAvatarFailure.END_CALL:
            self._end_call(ending, f"{reason}, and avatar.onFailure is EndCall")

    async def _release(self, avatar: Avatar) -> None:
        await avatar.close()
        self._tell(AvatarState.GONE, "")
