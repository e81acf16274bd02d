"""The jobs of all workers, as they reported them, and which workers are lost. Passed on at once to who listens.

Times are seconds of one monotonic clock that the caller passes in.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agentspec import WorkerStatus
from agentspec.wire import JobReport, JobState, WorkerCalls
from controller.observation import Key
from controller.policy.lost_workers import LossReason, has_restarted

logger = logging.getLogger(__name__)

LOST_SECONDS: Final = 30.0
"""How long a lost worker is reported to new listeners: a gateway may reconnect."""


@dataclass(slots=True)
class _Entry:
    """What is known of one worker."""

    status: WorkerStatus
    calls: WorkerCalls
    """What listeners were told last."""
    lost_at: float | None = None


class WorkerJobs:
    """Records the jobs of workers, and tells listeners every change."""

    def __init__(self, on_lost: Callable[[LossReason], None] = lambda reason: None) -> None:
        """`on_lost`: called for each lost worker."""
        self.listeners: set[Callable[[WorkerCalls], None]] = set()
        self._on_lost = on_lost
        self._workers: dict[tuple[Key, str], _Entry] = {}
        """Workers that have jobs, and lost ones."""

    def record(self, key: Key, pod: str, status: WorkerStatus, now: float) -> None:
        """Record a worker's status. A worker that was lost and has jobs again is not lost any more."""
        if status.jobs is None:
            return
        known = self._workers.get((key, pod))
        if known is not None and has_restarted(known.status, status):
            self.lose(key, pod, LossReason.PROCESS_RESTARTED, now)
            known = self._workers.get((key, pod))
        is_lost = known is not None and known.calls.lost
        before: list[JobReport] = [] if known is None or is_lost else known.calls.jobs
        if known is not None and not is_lost:
            known.status = status
        if status.jobs == before:
            return
        calls = WorkerCalls(agent=str(key), worker=pod, jobs=status.jobs)
        if status.jobs:
            self._workers[key, pod] = _Entry(status, calls)
        else:
            del self._workers[key, pod]
        self._tell(calls)

    def has_jobs(self, key: Key, pod: str) -> bool:
        """Whether the worker has jobs that have not ended, as far as it reported, and is not lost."""
        known = self._workers.get((key, pod))
        return known is not None and not known.calls.lost and bool(_held(known.calls))

    def lose(self, key: Key, pod: str, reason: LossReason, now: float) -> None:
        """Report that a worker is gone. It is lost if it had jobs; a lost one is lost once."""
        known = self._workers.get((key, pod))
        if known is None or known.calls.lost:
            return
        held = _held(known.calls)
        if not held:
            del self._workers[key, pod]
            self._tell(WorkerCalls(agent=str(key), worker=pod))
            return
        known.calls, known.lost_at = WorkerCalls(agent=str(key), worker=pod, jobs=held, lost=True), now
        facts = {"agent": str(key), "pod": pod, "reason": reason.value, "calls": len(held)}
        logger.warning("worker lost", extra=facts)
        self._on_lost(reason)
        self._tell(known.calls)

    def current(self, now: float) -> list[WorkerCalls]:
        """Return the workers with jobs, and those that were lost lately, by agent and name."""
        for worker, entry in list(self._workers.items()):
            if entry.lost_at is not None and now - entry.lost_at > LOST_SECONDS:
                del self._workers[worker]
        return [entry.calls for _, entry in sorted(self._workers.items(), key=lambda item: item[0])]

    def _tell(self, calls: WorkerCalls) -> None:
        for listener in tuple(self.listeners):
            listener(calls)


def _held(calls: WorkerCalls) -> list[JobReport]:
    return [job for job in calls.jobs if job.state is not JobState.ENDED]
