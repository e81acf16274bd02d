"""What is: the status of an AvatarAgent. The controller writes it, rounded to changes worth a write."""

from pydantic import Field

from agentspec.conditions import Condition
from agentspec.model import Model


class WorkerCounts(Model):
    """Worker pods, counted."""

    desired: int = Field(default=0, ge=0, description="Workers wanted.")
    ready: int = Field(default=0, ge=0, description="Workers whose pod is ready.")
    registered: int = Field(default=0, ge=0, description="Workers registered with LiveKit under the agent name.")
    updated: int = Field(default=0, ge=0, description="Workers that run the present configuration.")
    draining: int = Field(default=0, ge=0, description="Workers that finish their calls and leave.")


class SlotCounts(Model):
    """Slots, counted."""

    total: int = Field(default=0, ge=0, description="Slots of the registered workers.")
    free: int = Field(default=0, ge=0, description="Slots not in use.")


class CallCounts(Model):
    """Calls, counted."""

    active: int = Field(default=0, ge=0, description="Calls on workers.")
    pending: int = Field(default=0, ge=0, description="Calls waiting for a slot.")
    with_avatar: int = Field(default=0, ge=0, description="Calls that show a face: seats in use.")


class AvatarAgentStatus(Model):
    """What is."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation the status speaks of.")
    conditions: list[Condition] = Field(default_factory=list, max_length=16, description="Statements about the agent.")
    agent_name: str = Field(default="", description="Name the workers register under.")
    selector: str = Field(default="", description="Label selector of the worker pods, for the scale subresource.")
    workers: WorkerCounts = Field(default_factory=WorkerCounts, description="Worker pods.")
    slots: SlotCounts = Field(default_factory=SlotCounts, description="Slots.")
    calls: CallCounts = Field(default_factory=CallCounts, description="Calls.")
