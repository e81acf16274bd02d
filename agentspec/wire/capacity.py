"""Slots and calls: what workers report, what gateways need, and what the controller answers."""

from pydantic import Field

from agentspec.model import Model
from agentspec.wire.calls import JobReport
from agentspec.wire.providers import StageReports

MAX_AVATARS_QUERY = "maxAvatars"
"""Query parameter of ``/status?watch``: with it the controller tells the worker how many avatars the agent may have at
once (`avatar.maxSessions`); empty: no limit."""

STAGES_QUERY = "stages"
"""Query parameter of ``/status`` by which a reader asks for `WorkerStatus.stages`. Release 0.1.0 rejects the field."""
STATUS_HEARTBEAT_SECONDS = 20
"""A worker's ``/status?watch`` repeats the current state after this time without a change."""
ADDRESS_QUERY = "address"
"""Query parameter of ``POST /v1/demand``: the gateway's ``IP:PORT`` for other gateways. With it the supply has
`Supply.gateways`. It is no field of the demand, because release 0.1.0 rejects unknown fields."""
LEAVING_QUERY = "leaving"
"""Query parameter of ``POST /v1/demand``: the gateway stops, and is no longer one of the gateways."""
NOT_SYNCED = "NotSynced"
"""``reason`` of the answer 503 to ``POST /v1/demand`` of a new leader that has not heard from all workers. It has
recorded the demand, and counts the gateway as alive. With any other reason, no leader has."""
MEMBER_SECONDS = 1.6
"""A gateway that the controller has not heard for this long is gone."""


class WorkerStatus(Model):
    """One worker's state: ``GET /status`` of a worker pod.

    ``GET /status?watch`` is newline-delimited JSON: the current state at once, another line within 0.1 s of any change,
    and the current state again every `STATUS_HEARTBEAT_SECONDS`. With `STAGES_QUERY` both contain `stages`, with
    `JOBS_QUERY` both contain `jobs`.
    """

    agent_name: str = Field(description="The name it registered under; empty for automatic dispatch.")
    worker_id: str = Field(default="", description="LiveKit's id of the worker; empty before the first registration.")
    registered: bool = Field(description="Whether it is registered with LiveKit now.")
    draining: bool = Field(description="Whether it accepts no new calls and terminates when its calls have ended.")
    slots: int = Field(ge=0, description="Calls that it can take at once.")
    calls: int = Field(ge=0, description="Calls that it holds, including those that are starting.")
    avatars: int = Field(default=0, ge=0, description="Calls with an avatar, including those that are starting.")
    avatar_problem: str = Field(
        default="", description="Why the last avatar on this worker failed; empty after one that joined."
    )
    avatar_failure: str = Field(
        default="",
        exclude_if=lambda failure: not failure,
        description="Why the plugin of `avatar.plugin` cannot be used on this worker. Empty, and left out: it can, or "
        "there is none.",
    )
    stages: StageReports | None = Field(
        default=None,
        exclude_if=lambda stages: stages is None,
        description="Outcomes of the requests to providers; null: the reader did not ask, or the worker does not know.",
    )
    jobs: list[JobReport] | None = Field(
        default=None,
        exclude_if=lambda jobs: jobs is None,
        description="Its jobs by id, at most 200, including those that ended within the last 5 s; null: the reader did "
        "not ask, or the worker does not know.",
    )

    code_failure: str = Field(
        default="",
        max_length=1024,
        exclude_if=lambda failure: not failure,
        description="Why the agent's own code cannot be used: the worker does not register. Empty, and left out: it "
        "can, or there is none.",
    )

    tool_failure: str = Field(
        default="",
        max_length=1024,
        exclude_if=lambda failure: not failure,
        description="Why an MCP server of the agent's tools cannot be used. Empty, and left out: all can, or there is "
        "none.",
    )

    @property
    def free_slots(self) -> int:
        """Slots that a dispatch could take now."""
        return max(0, self.slots - self.calls) if self.registered and not self.draining else 0


class Demand(Model):
    """The calls that wait at one gateway: the body of ``POST /v1/demand`` at the controller."""

    gateway: str = Field(min_length=1, max_length=253, description="The gateway's name: its pod's, and its process'.")
    pending: dict[str, int] = Field(
        default_factory=dict, description="Calls waiting for a slot, by agent key ``namespace/name``."
    )


class AgentSupply(Model):
    """The free capacity of one agent's workers."""

    free_slots: int = Field(ge=0, description="Free slots on registered workers that are not draining.")
    slots: int = Field(ge=0, description="All slots of those workers.")
    free_avatars: int | None = Field(
        default=None, ge=0, description="Avatars that may still start; null: the agent has no limit."
    )


class GatewayMember(Model):
    """One live gateway."""

    name: str = Field(description="The gateway's name: its pod's, and its process'.")
    address: str = Field(description="Where other gateways reach it, as ``IP:PORT``.")


class Supply(Model):
    """The controller's answer to a demand."""

    agents: dict[str, AgentSupply] = Field(
        default_factory=dict, description="Free capacity by agent key ``namespace/name``."
    )
    gateways: list[GatewayMember] | None = Field(
        default=None,
        exclude_if=lambda gateways: gateways is None,
        description="All live gateways; null: the gateway did not ask, or the controller does not know yet.",
    )


def agent_key(namespace: str, name: str) -> str:
    """Return the key of an agent in demands and supplies."""
    return f"{namespace}/{name}"
