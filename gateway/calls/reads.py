"""Which rooms of one LiveKit server to read next: those with news first, and each in its turn. Pure."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.calls.bucket import TokenBucket

READS_PER_SECOND: Final = 3.0
"""Reads of single rooms a second and server, on average."""
READ_BURST: Final = 60.0
"""Reads that may be made at once after a quiet time, for example when many calls begin together."""
TURN_SECONDS: Final = 1.0
"""Longest time without a read of the room that was read longest ago, however many are urgent."""
MAX_READS: Final = 8
"""Reads of one server that may run at once. A server that hangs delays no calls on another one."""


class Need(NamedTuple):
    """How soon a call's room should be read."""

    is_routine: bool
    """The call goes well, so the room can wait for its turn."""
    at: float
    """When to read it, in Unix seconds."""


NeedOf = Callable[[str], Need | None]
"""Returns the need of a call by its id; None: the call is over."""


class Reads:
    """The reads of one server's rooms, by the ids of their calls."""

    def __init__(self) -> None:
        self.rotation: OrderedDict[str, None] = OrderedDict()
        """All calls, the one whose room was read longest ago first."""
        self.active: set[str] = set()
        """Calls whose room may be due before its turn."""
        self._reading: set[str] = set()
        self._bucket = TokenBucket(READS_PER_SECOND, READ_BURST)
        self._turn_at = 0.0
        """When the first of the rotation was read last."""

    def add(self, call_id: str) -> None:
        """Read the room of a call from now on."""
        self.rotation[call_id] = None
        self.active.add(call_id)

    def forget(self, call_id: str) -> None:
        """Read the room no more."""
        self.rotation.pop(call_id, None)
        self.active.discard(call_id)

    def take(self) -> bool:
        """Take a read, also for something else, from the bound; False: none is left."""
        if not self._bucket.has(1):
            return False
        self._bucket.take(1)
        return True

    def done(self, call_id: str) -> None:
        """A read has ended."""
        self._reading.discard(call_id)

    def begin_due(self, now: float, need_of: NeedOf) -> list[str]:
        """Return the calls whose rooms to read now, as far as the bounds allow; their reads have begun."""
        self._bucket.fill(now)
        if len(self._reading) >= MAX_READS or not self._bucket.has(1):
            return []
        urgent, in_turn = self._urgent(now, need_of), self._in_turn(now, need_of)
        first = in_turn[:1]
        before = first if now - self._turn_at >= TURN_SECONDS else []
        begun: list[str] = []
        for call_id in dict.fromkeys([*before, *urgent, *in_turn]):
            if len(self._reading) >= MAX_READS or not self.take():
                break
            if call_id in first:
                self._turn_at = now
            self._reading.add(call_id)
            self.rotation.move_to_end(call_id)
            begun.append(call_id)
        return begun

    def _urgent(self, now: float, need_of: NeedOf) -> list[str]:
        """Return the calls whose rooms are due before their turn: those with news, or with somebody on the way."""
        due: list[tuple[float, str]] = []
        for call_id in list(self.active):
            need = need_of(call_id)
            if need is None or need.is_routine:
                self.active.discard(call_id)
            elif call_id not in self._reading and need.at <= now:
                due.append((need.at, call_id))
        return [call_id for _, call_id in sorted(due)]

    def _in_turn(self, now: float, need_of: NeedOf) -> list[str]:
        """Return the calls whose rooms are due and were read longest ago."""
        due: list[str] = []
        for call_id in self.rotation:
            need = need_of(call_id)
            if len(due) >= MAX_READS or need is None or need.at > now:
                break
            if call_id not in self._reading:
                due.append(call_id)
        return due
