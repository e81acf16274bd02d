"""Which rooms of one LiveKit server that are no known calls to look into, and when. Pure.

A look is one request or two, and finds out whether a room is a call. The list of rooms names such rooms, and so do
LiveKit's events. Many of them may be another program's, so looks in vain are bounded, apart from the reads of calls. A
look that finds a call has no bound: the call has to be adopted anyway.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.calls.bucket import TokenBucket
from gateway.livekit.server import Room

LOOKS_PER_SECOND: Final = 1.0
"""Requests a second for looks in vain, on average."""
LOOK_BURST: Final = 30.0
"""Such requests at once after a quiet time."""
RESERVE: Final = 15.0
"""Such requests that are kept for rooms with news. Repeated looks, as many as there are rooms, leave so many."""
MAX_HINTS: Final = 500
"""Rooms of events that wait for a look. The list of rooms has those that are left out."""


class _Look(NamedTuple):
    """The last look at a room that was no call."""

    again_at: float
    """When to look again, in Unix seconds."""
    found_empty: bool
    """Nobody was in the room. Whoever enters it may begin a call."""


class Looks:
    """The rooms that wait for a look, the last look at each, and how many looks may be in vain."""

    def __init__(self) -> None:
        self._hints: OrderedDict[str, None] = OrderedDict()
        """Names, the oldest hint first."""
        self._last: dict[str, _Look] = {}
        """By LiveKit's id of the room."""
        self._in_vain = TokenBucket(LOOKS_PER_SECOND, LOOK_BURST)

    @property
    def has_hints(self) -> bool:
        return bool(self._hints)

    def hint(self, room: str) -> None:
        """Add a room by its name, because LiveKit reported an event in it."""
        if len(self._hints) < MAX_HINTS:
            self._hints[room] = None

    def take_hint(self, now: float) -> str | None:
        """Remove and return the next room with an event; None: there is none, or too many looks were in vain."""
        self._in_vain.fill(now)
        return self._hints.popitem(last=False)[0] if self._hints and self._in_vain.has(1) else None

    def clear_hints(self) -> None:
        """Remove all rooms with an event."""
        self._hints.clear()

    def due(self, rooms: Iterable[Room], now: float) -> list[Room]:
        """Return the listed rooms to look into, of those that are no known calls: rooms with news first, then by age.

        Calls begin in young rooms. So the youngest is first, and waits for no old room of another program.
        """
        listed = list(rooms)
        self._last = {room.sid: self._last[room.sid] for room in listed if room.sid in self._last}
        due = [room for room in listed if self._has_news(room) or self._last[room.sid].again_at <= now]
        return sorted(due, key=lambda room: (not self._has_news(room), -room.created_at))

    def may_begin(self, room: Room, now: float) -> bool:
        """Return whether a look at a listed room may be in vain."""
        self._in_vain.fill(now)
        return self._in_vain.has(1 if self._has_news(room) else 1 + RESERVE)

    def record(self, room: Room, again_at: float) -> None:
        """Record a look at a room. It is repeated at this time if the room is still no call, and after news."""
        self._last[room.sid] = _Look(again_at, not room.participants)

    def count_in_vain(self, requests: int) -> None:
        """Count the requests for a look that found no call."""
        self._in_vain.take(requests)

    def forget(self) -> None:
        """Look into all rooms again, because the owners of agents have changed."""
        self._last.clear()

    def _has_news(self, room: Room) -> bool:
        """Whether nobody has looked into the room yet, or somebody has entered it since."""
        last = self._last.get(room.sid)
        return last is None or (last.found_empty and room.participants > 0)
