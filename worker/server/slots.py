"""Slots: how many calls a worker holds, and the load it reports. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from agentspec.scaling import Placement

FULL_LOAD: Final = 1.0
HIGHEST_FREE_LOAD: Final = 0.69
"""LiveKit offers no job to a worker that reports 0.7 or more, whatever threshold the worker set (livekit-server 1.13,
pkg/service/agentservice.go). A worker with a free slot stays below that, and one without is far above."""
HIGHEST_PACKED_LOAD: Final = 0.2
"""Highest load of a worker that has calls, with packed placement. LiveKit chooses a worker at random, weighted by
1 - load, so the distance to the load of idle workers decides."""


def load(calls: int, slots: int, placement: Placement) -> float:
    """Return the load to report: below 0.7 while a slot is free, else 1.0.

    With spread placement it rises with every call. With packed placement idle workers report the highest load, and
    among the others it falls with every call.
    """
    if calls >= slots:
        return FULL_LOAD
    if placement is Placement.SPREAD:
        return HIGHEST_FREE_LOAD * calls / slots
    return HIGHEST_PACKED_LOAD * (slots - calls) / slots if calls else HIGHEST_FREE_LOAD


@dataclass
class Slots:
    """The slots of one worker. A call takes one from the job's acceptance until its process has ended."""

    total: int
    """Calls that the worker can hold at once."""
    _starting: set[str] = field(default_factory=set)

    def reserve(self, job_id: str) -> None:
        """Reserve a slot for an accepted job until its process runs."""
        self._starting.add(job_id)

    def release(self, job_id: str) -> None:
        """Drop the reservation; does nothing when there is none."""
        self._starting.discard(job_id)

    def free(self, running: Iterable[str]) -> int:
        """Return how many more calls fit."""
        return max(0, self.total - len(self.held(running)))

    def starting(self, running: Iterable[str]) -> int:
        """Return how many accepted jobs have no process yet."""
        return len(self._starting.difference(running))

    def held(self, running: Iterable[str]) -> set[str]:
        """Return the job ids of all calls, given those that have a process; a job that is in both is one call."""
        return self._starting.union(running)
