"""The status of an AvatarAgent. The controller writes it when a change is worth a write."""

from pydantic import Field

from agentspec.conditions import Condition
from agentspec.model import Model


class WorkerCounts(Model):
    """Numbers of worker pods."""

    desired: int = Field(default=0, ge=0, description="Workers that should run.")
    ready: int = Field(default=0, ge=0, description="Workers whose pod is ready.")
    registered: int = Field(default=0, ge=0, description="Workers registered with LiveKit under the agent name.")
    updated: int = Field(default=0, ge=0, description="Workers that run the current configuration.")
    draining: int = Field(default=0, ge=0, description="Workers that finish their calls and then terminate.")


class SlotCounts(Model):
    """Numbers of slots."""

    total: int = Field(default=0, ge=0, description="Slots of the registered workers.")
    free: int = Field(default=0, ge=0, description="Free slots.")


class CallCounts(Model):
    """Numbers of calls."""

    active: int = Field(default=0, ge=0, description="Calls in progress.")
    pending: int = Field(default=0, ge=0, description="Calls waiting for a slot.")
    with_avatar: int = Field(default=0, ge=0, description="Calls with an avatar: seats in use.")


class AvatarAgentStatus(Model):
    """The observed state of a voice agent."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation that the controller evaluated.")
    conditions: list[Condition] = Field(default_factory=list, max_length=16, description="Conditions of the agent.")
    agent_name: str = Field(default="", description="Name that the workers register under.")
    selector: str = Field(default="", description="Label selector of the worker pods, for the scale subresource.")
    workers: WorkerCounts = Field(default_factory=WorkerCounts, description="Numbers of worker pods.")
    slots: SlotCounts = Field(default_factory=SlotCounts, description="Numbers of slots.")
    calls: CallCounts = Field(default_factory=CallCounts, description="Numbers of calls.")
