"""Whether a call may have an avatar (`avatar.maxSessions`).

The gateway gives seats to its own calls, and other dispatches know of no seats. So every call looks itself, also the
gateway's: another dispatch may have taken the seat meanwhile.

- `ListedSeat` looks at the provider's own list of open avatars, which has those of all calls.
- `WorkerSeat` is for a provider without a list. It looks at the calls of the own worker.
"""

import logging
from typing import Final

from livekit.agents import APIConnectionError, APIStatusError

from worker import avatar_limit
from worker.avatar_sessions import OpenAvatar, OpenAvatars, uid_of

logger = logging.getLogger(__name__)

NO_SEAT: Final = "no avatar seat is free (avatar.maxSessions)"


class ListedSeat:
    """The seat of one call. Without a limit, or without the list, the call has one: the provider itself may refuse."""

    def __init__(self, avatars: OpenAvatars, owner: str, limit: int | None) -> None:
        self._avatars = avatars
        self._uid = uid_of(owner)
        self._limit = limit

    async def is_free(self) -> bool:
        """Return whether a seat is free, before the call requests its avatar."""
        found = await self._open()
        return found is None or self._limit is None or len(found) < self._limit

    async def is_kept(self, avatar_id: str) -> bool:
        """Return whether the call may keep its avatar: calls that start together may exceed the limit, and the
        last ones give up their seats.
        """
        found = await self._open()
        if found is None or self._limit is None:
            return True
        first = sorted(found, key=lambda avatar: (avatar.created_at, avatar.id))[: self._limit]
        return avatar_id in [avatar.id for avatar in first] or len(found) <= self._limit

    async def _open(self) -> list[OpenAvatar] | None:
        """Return the agent's open avatars; None when there is no limit, or they are unknown."""
        if self._limit is None or not self._uid:
            return None
        try:
            return [found for found in await self._avatars.active() if uid_of(found.name.owner) == self._uid]
        except (APIConnectionError, APIStatusError) as error:
            logger.warning("avatar seats unknown, the provider decides", extra={"error": type(error).__name__})
            return None


class WorkerSeat:
    """The seat of one call, by the avatars of its own worker, which count in the order of their jobs."""

    def __init__(self, job_id: str, limit: int | None) -> None:
        self._job_id = job_id
        self._limit = limit

    def is_free(self) -> bool:
        """Return whether a seat is free, before the call requests its avatar."""
        jobs = avatar_limit.jobs_with_avatar()
        return self._limit is None or self._job_id not in jobs[self._limit :]
