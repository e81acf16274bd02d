"""Avatar reports: which calls of a worker have an avatar, and why the last avatar failed.

A call process holds the avatar of its call; the main process counts the avatars of all calls. It counts one for every
job that it accepts with an avatar. The call process then reports the avatar's state (`worker.reports`). A job that has
ended has no avatar, whatever the last report said, so an avatar of a killed process is not counted for ever.
"""

from collections.abc import Collection
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


class AvatarReport(Model):
    """What a call process reports about its avatar."""

    job_id: str = Field(max_length=128)
    state: AvatarState
    error: str = Field(default="", max_length=MAX_ERROR_LENGTH)


class Avatars:
    """The avatars of one worker's calls."""

    def __init__(self) -> None:
        self.last_error = ""
        """Why the last avatar failed; empty after one that joined."""
        self._jobs: set[str] = set()

    def expect(self, job_id: str) -> None:
        """Count an avatar for a job that is being accepted."""
        self._jobs.add(job_id)

    def forget(self, job_id: str) -> None:
        """Stop counting the job's avatar; does nothing when it has none."""
        self._jobs.discard(job_id)

    def count(self, jobs: Collection[str]) -> int:
        """Return how many avatars are in use or starting, given the ids of the worker's jobs."""
        return len(self._jobs.intersection(jobs))

    def record(self, report: AvatarReport) -> None:
        """Apply a call process' report."""
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
