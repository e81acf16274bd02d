"""Which unknown rooms of one LiveKit server to look into, because LiveKit reported an event in them. Pure.

Many of these rooms may be another program's, so looks in vain are bounded. A look that finds a call has no bound: the
call has to be adopted anyway.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

LOOKS_PER_SECOND: Final = 1.0
"""Looks in vain a second, on average."""
LOOK_BURST: Final = 30.0
"""Looks in vain at once after a quiet time."""
MAX_HINTS: Final = 500
"""Rooms that wait for a look. The list of rooms has those that are left out."""


@dataclass
class RoomHints:
    """The rooms that wait for a look, and how many looks may be in vain."""

    _rooms: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    """Names, the oldest hint first."""
    _tokens: float = LOOK_BURST
    _tokens_at: float = 0.0
    """Unix seconds."""

    def __bool__(self) -> bool:
        return bool(self._rooms)

    def add(self, room: str) -> None:
        """Add a room by its name."""
        if len(self._rooms) < MAX_HINTS:
            self._rooms[room] = None

    def take(self, now: float) -> str | None:
        """Remove and return the next room; None: there is none, or too many looks were in vain."""
        self._tokens = min(LOOK_BURST, self._tokens + LOOKS_PER_SECOND * (now - self._tokens_at))
        self._tokens_at = now
        return self._rooms.popitem(last=False)[0] if self._rooms and self._tokens >= 1 else None

    def count_in_vain(self) -> None:
        """Count a look at a room that was no call."""
        self._tokens -= 1

    def clear(self) -> None:
        """Remove all rooms."""
        self._rooms.clear()
