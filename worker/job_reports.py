"""Job reports: what a call process tells the main process of its worker about its job.

The main process passes them on in the worker status. A report can be lost, so the end of the call process counts as the
end of its job.
"""

from pydantic import Field

from agentspec.model import Model
from agentspec.wire import CallOutcome, JobState
from worker import reports


class JobProgress(Model):
    """How far the job of a call process is."""

    job_id: str = Field(max_length=128)
    state: JobState
    outcome: CallOutcome | None = None
    """How the agent ended the call; None: it has not ended."""


def joined(job_id: str) -> None:
    """Report that the agent is connected to the room."""
    reports.send(JobProgress(job_id=job_id, state=JobState.JOINED))


def ended(job_id: str, outcome: CallOutcome) -> None:
    """Report that the agent has left the room."""
    reports.send(JobProgress(job_id=job_id, state=JobState.ENDED, outcome=outcome))
