"""Avatar reports: which calls of a worker have an avatar, and why the last avatar failed.

A call process holds the avatar of its call; the main process counts the avatars of all calls. It counts one for every
job that it accepts with an avatar. The call process then reports the avatar's state (`worker.reports`). The main
process closes an abandoned avatar, and that of a call process that ended without a last report.
"""

from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Final

from pydantic import Field

from agentspec.model import Model
from worker import reports

MAX_ERROR_LENGTH: Final = 256
"""Characters of an error; the rest is cut."""


class AvatarState(StrEnum):
    """State of a call's avatar."""

    JOINED = "joined"
    FAILED = "failed"
    """It did not join; it may still hold its seat."""
    RELEASED = "released"
    """Its seat is free again."""
    ABANDONED = "abandoned"
    """The call process could not make sure that it is closed. It may hold its seat."""


class AvatarReport(Model):
    """What a call process reports about its avatar."""

    job_id: str = Field(max_length=128)
    state: AvatarState
    error: str = Field(default="", max_length=MAX_ERROR_LENGTH)


class Avatars:
    """The avatars of one worker's calls."""

    def __init__(self, publish: Callable[[Iterable[str]], None] = lambda jobs: None) -> None:
        """`publish` is called with the jobs that have an avatar, the oldest first, on every change."""
        self.last_error = ""
        """Why the last avatar failed; empty after one that joined."""
        self._publish = publish
        self._jobs: dict[str, None] = {}
        """In the order in which they were accepted."""
        self._abandoned: set[str] = set()

    def expect(self, job_id: str) -> None:
        """Count an avatar for a job that is being accepted."""
        self._jobs[job_id] = None
        self._publish(self._jobs)

    def forget(self, job_id: str) -> None:
        """Stop counting the job's avatar; does nothing when it has none."""
        self._abandoned.discard(job_id)
        if job_id in self._jobs:
            del self._jobs[job_id]
            self._publish(self._jobs)

    def abandon(self, job_id: str) -> bool:
        """Count the job's avatar until `forget`, also when the job has ended; returns whether it has just begun to."""
        if job_id not in self._jobs:
            return False
        self.forget(job_id)
        self._abandoned.add(job_id)
        return True

    def is_abandoned(self, job_id: str) -> bool:
        """Return whether the job's avatar may still be open, and no call process closes it."""
        return job_id in self._abandoned

    def count(self, jobs: Collection[str]) -> int:
        """Return how many avatars are in use or starting, given the ids of the worker's jobs."""
        return len(self._jobs.keys() & set(jobs)) + len(self._abandoned)

    def record(self, report: AvatarReport) -> None:
        """Apply a call process' report. The caller closes an abandoned avatar, which changes nothing here."""
        match report.state:
            case AvatarState.JOINED:
                self.last_error = ""
            case AvatarState.FAILED:
                self.last_error = report.error
            case AvatarState.RELEASED:
                self.forget(report.job_id)


def report(job_id: str, state: AvatarState, error: str = "") -> None:
    """Report a state to the worker's main process, from a call process.

    The end of the job corrects the count when the report is lost.
    """
    reports.send(AvatarReport(job_id=job_id, state=state, error=error[:MAX_ERROR_LENGTH]))
