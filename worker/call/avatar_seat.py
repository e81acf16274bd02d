"""Whether a call may have an avatar (`avatar.maxSessions`), by Tavus' own list of conversations.

The gateway gives seats to its own calls, and other dispatches know of no seats. Tavus' list has the conversations of
all of them. So every call looks there, also the gateway's: another dispatch may have taken the seat meanwhile.
"""

import logging
from typing import Final

from livekit.agents import APIConnectionError, APIStatusError

from worker.tavus_api import Conversation, TavusAPI, uid_of

logger = logging.getLogger(__name__)

NO_SEAT: Final = "no avatar seat is free (avatar.maxSessions)"


class AvatarSeat:
    """The seat of one call. Without a limit, or without Tavus' list, the call has one: Tavus itself may refuse."""

    def __init__(self, api: TavusAPI, owner: str, limit: int | None) -> None:
        self._api = api
        self._uid = uid_of(owner)
        self._limit = limit

    async def is_free(self) -> bool:
        """Return whether a seat is free, before the call requests its avatar."""
        found = await self._conversations()
        return found is None or self._limit is None or len(found) < self._limit

    async def is_kept(self, conversation_id: str) -> bool:
        """Return whether the call may keep its conversation: calls that start together may exceed the limit, and the
        last ones give up their seats.
        """
        found = await self._conversations()
        if found is None or self._limit is None:
            return True
        first = sorted(found, key=lambda conversation: (conversation.created_at, conversation.id))[: self._limit]
        return conversation_id in [conversation.id for conversation in first] or len(found) <= self._limit

    async def _conversations(self) -> list[Conversation] | None:
        """Return the agent's active conversations; None when there is no limit, or they are unknown."""
        if self._limit is None or not self._uid:
            return None
        try:
            return [found for found in await self._api.active() if uid_of(found.name.owner) == self._uid]
        except (APIConnectionError, APIStatusError) as error:
            logger.warning("avatar seats unknown, Tavus decides", extra={"error": type(error).__name__})
            return None
