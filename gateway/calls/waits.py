"""Estimates how long a waiting call still waits. It knows the calls of this gateway only."""

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final

from gateway.calls.call import Call

RECENT_CALLS: Final = 20
"""Lengths of the latest calls that count, for each agent."""
MIN_CALLS: Final = 3
"""With fewer known lengths there is no estimate."""


def estimate_seconds(position: int, calls_in_progress: int, lengths: Sequence[float]) -> int | None:
    """Return about how many seconds the call at a position of the line still waits; None: unknown.

    While a call waits, every slot has a call in it. Slots then become free at a rate of one for each mean length and
    slot. New workers and long calls are not foreseen.
    """
    if calls_in_progress == 0 or len(lengths) < MIN_CALLS:
        return None
    return math.ceil(position * sum(lengths) / len(lengths) / calls_in_progress)


class CallLengths:
    """The lengths of the latest calls, by agent key."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT_CALLS))

    def record(self, call: Call) -> None:
        """Record a call that is over. One without an agent had no length."""
        if call.joined_at is not None:
            self._seconds[call.agent.key].append(call.state_since - call.joined_at)

    def of(self, agent_key: str) -> Sequence[float]:
        """Return the lengths of an agent's latest calls, in seconds."""
        return tuple(self._seconds.get(agent_key, ()))
