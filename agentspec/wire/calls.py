"""The jobs of workers: what each worker reports, and what the controller passes on to gateways at once."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from agentspec.model import Model
from agentspec.wire.room import CallOutcome

JOBS_QUERY: Final = "jobs"
"""Query parameter of ``/status`` by which a reader asks for `WorkerStatus.jobs`. Release 0.1.0 rejects the field."""
ENDED_JOB_SECONDS: Final = 5.0
"""How long a worker still reports a job that has ended."""
GATEWAY_QUERY: Final = "gateway"
"""Query parameter of ``GET /v1/events``: the gateway's name. A second stream of one gateway ends its first."""
EVENTS_HEARTBEAT_SECONDS: Final = 1.0
"""``GET /v1/events`` sends an empty line this often."""


class JobState(StrEnum):
    """How far a job is."""

    STARTING = "starting"
    """The worker accepted it, and its agent is not in the room yet."""
    JOINED = "joined"
    """Its agent is connected to the room."""
    ENDED = "ended"
    """Its agent has left the room, or its call process has ended."""


class JobReport(Model):
    """One job of a worker."""

    job_id: str = Field(description="LiveKit's id of the job.")
    room: str = Field(description="Name of the room.")
    state: JobState = Field(
        default=JobState.JOINED, description="How far it is. An unknown state of a newer worker counts as joined."
    )
    outcome: Annotated[CallOutcome | Annotated[str, Field(max_length=64)], Field(union_mode="left_to_right")] = Field(
        default="",
        description="How the agent ended the call. Empty: it has not, or its call process was lost. An outcome of a "
        "newer worker stays as its text.",
    )


def agent_identity(job_id: str) -> str:
    """Return the identity of a job's agent in the room.

    It is the identity of an agent that accepts a job without naming another one (livekit-agents 1.8.9, job.py).
    """
    return f"agent-{job_id}"


class WorkerCalls(Model):
    """The jobs of one worker: a line of ``GET /v1/events`` at the controller.

    The response is newline-delimited JSON. It begins with one line for each worker with jobs and for each worker that
    was lost within the last 30 s, and an empty line ends this beginning. After that each change of a worker's jobs is a
    line with all its jobs. An empty line is the heartbeat.
    """

    agent: str = Field(description="Agent key ``namespace/name``.")
    worker: str = Field(description="Name of the worker's pod.")
    jobs: list[JobReport] = Field(
        default_factory=list, description="Its jobs by id, including those that ended within the last 5 s."
    )
    lost: bool = Field(
        default=False,
        description="Whether the worker is lost. `jobs` are then the jobs that it held when it reported last.",
    )
