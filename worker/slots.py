"""Slots: how many calls a worker holds, and the load it reports for them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

FULL_LOAD: Final = 1.0
HIGHEST_FREE_LOAD: Final = 0.69
"""LiveKit refuses workers that report 0.7 or more, whatever threshold the worker set (livekit-server 1.13,
pkg/service/agentservice.go), so a worker with a free slot stays below and one without goes far above."""


def load(calls: int, slots: int) -> float:
    """The load to report: rises with the calls but stays below 0.7 while a slot is free, 1.0 when none is."""
    if calls >= slots:
        return FULL_LOAD
    return HIGHEST_FREE_LOAD * calls / slots


@dataclass
class Slots:
    """The calls of one worker: those accepted and not started yet, and those in a call process."""

    total: int
    _starting: set[str] = field(default_factory=set)

    def reserve(self, job_id: str) -> None:
        """Hold a slot for a job from its acceptance until its process counts as running."""
        self._starting.add(job_id)

    def release(self, job_id: str) -> None:
        self._starting.discard(job_id)

    def calls(self, running: Iterable[str]) -> int:
        """Calls held, given the ids of the jobs that have a process; a job that is in both is one call."""
        return len(self._starting.union(running))
