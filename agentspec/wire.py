"""What workers, controller and gateways tell each other about slots and calls."""

from typing import Annotated

from pydantic import Field

from agentspec.model import Model

STATUS_HEARTBEAT_SECONDS = 20
"""A worker's ``/status?watch`` repeats the present state after this long without a change."""


class WorkerStatus(Model):
    """One worker's state: ``GET /status`` of a worker pod.

    ``GET /status?watch`` is newline-delimited JSON: the present state at once, another line within 0.1 s of any change,
    and the present one again every `STATUS_HEARTBEAT_SECONDS`.
    """

    agent_name: str = Field(description="The name it registered under; empty for automatic dispatch.")
    worker_id: str = Field(default="", description="LiveKit's id of the worker; empty before the first registration.")
    registered: bool = Field(description="Registered with LiveKit, right now.")
    draining: bool = Field(description="Takes no more calls and leaves when its calls have ended.")
    slots: int = Field(ge=0, description="Calls that it can hold.")
    calls: int = Field(ge=0, description="Calls that it holds, those being started included.")
    avatars: int = Field(default=0, ge=0, description="Calls with an avatar, those being started included.")
    avatar_problem: str = Field(
        default="", description="Why the last avatar did not come on this worker; empty after one that came."
    )

    @property
    def free_slots(self) -> int:
        """Slots that a dispatch could take now."""
        return max(0, self.slots - self.calls) if self.registered and not self.draining else 0


class Demand(Model):
    """What one gateway waits for: the body of ``POST /v1/demand`` at the controller."""

    gateway: str = Field(min_length=1, max_length=253, description="The gateway pod's name.")
    pending: dict[str, int] = Field(
        default_factory=dict, description="Calls waiting for a slot, by agent key ``namespace/name``."
    )


class AgentSupply(Model):
    """What the controller knows of one agent's workers."""

    free_slots: int = Field(ge=0, description="Free slots on registered workers that are not draining.")
    slots: int = Field(ge=0, description="All slots of those workers.")
    free_avatars: int | None = Field(
        default=None, ge=0, description="Avatars that may still be started; none: the agent has no limit."
    )


class Supply(Model):
    """The controller's answer to a demand, by agent key ``namespace/name``."""

    agents: dict[str, AgentSupply] = Field(default_factory=dict)


def agent_key(namespace: str, name: str) -> str:
    """The key of an agent in demands and supplies."""
    return f"{namespace}/{name}"


class CallMetadata(Model):
    """What a gateway tells the worker about a call, as the dispatch's JSON metadata. Data, never instructions."""

    call_id: str = Field(max_length=128, description="The gateway's id of the call.")
    caller_identity: str = Field(default="", max_length=256, description="LiveKit identity the caller joins with.")
    user_id: str = Field(default="", max_length=256, description="The website's own id of the person, if it gave one.")
    language: str = Field(default="", max_length=35, description="Language the page was shown in, BCP 47.")
    avatar: bool = Field(default=True, description="False: no seat is free; go on as when the avatar does not come.")
    capabilities: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list, max_length=16, description="What the caller's client can do: `video`, `captions`."
    )
    metadata: dict[str, Annotated[str, Field(max_length=256)] | bool | int | float] = Field(
        default_factory=dict, max_length=16, description="Flat facts that the website sent along with its request."
    )
