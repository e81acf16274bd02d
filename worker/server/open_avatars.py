"""Ends avatars that no call process ends, so that none is billed or holds a seat for nothing.

Call processes end their own avatars. Two cases are left:

- **An abandoned avatar.** Its call process was killed, or got no answer from the provider. `AvatarCloser` searches it
  by the job in its name, also for some time after: the provider may accept a request late.
- **An orphan.** Its whole worker was killed. Another worker of the agent, or the next one, finds it: `OrphanReaper`
  ends avatars of this agent whose agent has left its room. LiveKit knows that for calls of all workers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from livekit.agents import APIConnectionError, APIStatusError

from worker.avatar_reports import Avatars
from worker.avatar_sessions import OpenAvatar, OpenAvatars

logger = logging.getLogger(__name__)

SEARCH_PAUSES: Final = (0.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds before each search for an abandoned avatar. A provider accepts a request within seconds, if at all."""
FIRST_REAP_SECONDS: Final = 30.0
"""How long after the start of a worker the first orphans are searched: calls come first."""
REAP_SECONDS: Final = 300.0
CONFIRM_SECONDS: Final = 60.0
"""An orphan's agent must still be absent after this time. A reconnecting agent returns sooner."""
_END_ATTEMPTS: Final = 2
_END_SECONDS: Final = 8.0


class AvatarCloser:
    """Closes abandoned avatars, and counts their seats until then."""

    def __init__(self, provider: OpenAvatars, avatars: Avatars) -> None:
        self._provider = provider
        self._avatars = avatars
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self, job_id: str) -> None:
        """Start to close the abandoned avatar of a job."""
        task = asyncio.create_task(self._close(job_id), name="close_avatar")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, seconds: float) -> None:
        """Wait for what is being closed, at most so long, and stop."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()

    async def _close(self, job_id: str) -> None:
        error = ""
        for pause in SEARCH_PAUSES:
            await asyncio.sleep(pause)
            if not self._avatars.is_abandoned(job_id):
                return
            try:
                found = [avatar for avatar in await self._provider.active() if avatar.name.job_id == job_id]
            except (APIConnectionError, APIStatusError) as failure:
                error = type(failure).__name__
                continue
            error = ", ".join([failed for avatar in found if (failed := await _end(self._provider, avatar))])
            if found and not error:
                break
        if error:
            logger.error("could not close avatar conversation", extra={"job_id": job_id, "error": error})
        self._avatars.forget(job_id)


class OrphanReaper:
    """Ends avatars of this agent whose agent is no longer in its room."""

    def __init__(
        self,
        provider: OpenAvatars,
        owner: str,
        *,
        held_jobs: Callable[[], Collection[str]],
        is_in_room: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        """`held_jobs` returns this worker's jobs. `is_in_room` returns whether an agent may be in a room, by the ids of
        room and job; it returns True when that is unknown.
        """
        self._provider = provider
        self._owner = owner
        self._held_jobs = held_jobs
        self._is_in_room = is_in_room

    async def run(self) -> None:
        """Search orphans from time to time, until cancelled. Without an owner there is nothing to search."""
        if not self._owner:
            return
        await asyncio.sleep(FIRST_REAP_SECONDS)
        while True:
            try:
                await self.reap()
            except (APIConnectionError, APIStatusError) as error:
                logger.warning("search for open avatar conversations failed", extra={"error": type(error).__name__})
            await asyncio.sleep(REAP_SECONDS)

    async def reap(self) -> None:
        """End the avatars that are orphans now, and still are after CONFIRM_SECONDS."""
        suspects = await self._orphans()
        if not suspects:
            return
        await asyncio.sleep(CONFIRM_SECONDS)
        for avatar in suspects & await self._orphans():
            await _end(self._provider, avatar)

    async def _orphans(self) -> set[OpenAvatar]:
        return {found for found in await self._provider.active() if await self._is_orphan(found)}

    async def _is_orphan(self, avatar: OpenAvatar) -> bool:
        name = avatar.name
        if name.owner != self._owner or not name.room or name.job_id in self._held_jobs():
            return False
        return not await self._is_in_room(name.room, name.job_id)


async def _end(provider: OpenAvatars, avatar: OpenAvatar) -> str:
    """End an avatar; returns an empty text, or why that failed."""
    error = await provider.end(avatar.id, attempts=_END_ATTEMPTS, seconds=_END_SECONDS)
    fields = {"conversation_id": avatar.id, "job_id": avatar.name.job_id, "room": avatar.name.room}
    if error:
        logger.warning("could not end avatar conversation, retrying", extra=fields | {"error": error})
    else:
        logger.info("open avatar conversation ended", extra=fields)
    return error
