"""AvatarAgents as the gateway reads them from Kubernetes."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from agentspec import AvatarAgentSpec, ConditionStatus, ConditionType
from agentspec.wire import agent_key


@dataclass(frozen=True)
class Agent:
    """One AvatarAgent with a valid spec."""

    namespace: str
    name: str
    spec: AvatarAgentSpec = field(repr=False)
    ready: bool
    """The condition Ready is True."""
    name_taken: bool = False
    """An older AvatarAgent uses the agent name on the same LiveKit server, so its workers would get the calls."""
    name_checked: bool = True
    """The controller has checked the current agent name. Before that, workers of another agent may use it."""

    @property
    def key(self) -> str:
        """Agent key: ``namespace/name``."""
        return agent_key(self.namespace, self.name)

    @property
    def agent_name(self) -> str:
        """Name that the agent's workers register under, and that calls are dispatched to."""
        return self.spec.registered_name(self.name)


@dataclass(frozen=True)
class InvalidAgent:
    """An AvatarAgent whose spec is not valid for this release of the gateway."""

    namespace: str
    name: str
    error: str
    """The first wrong field and what is wrong with it."""

    @property
    def key(self) -> str:
        """Agent key: ``namespace/name``."""
        return agent_key(self.namespace, self.name)


class AgentDirectory(Protocol):
    """A cache of all AvatarAgents that the gateway serves."""

    @property
    def synced(self) -> bool:
        """Whether the cache has loaded every AvatarAgent once."""

    async def wait_synced(self) -> None:
        """Wait until the cache is synced."""

    def get(self, namespace: str, name: str) -> Agent | InvalidAgent | None:
        """Return one agent; None when it does not exist."""

    def all(self) -> list[Agent | InvalidAgent]:
        """Return all agents."""


def parse_agent(resource: dict[str, Any]) -> Agent | InvalidAgent:
    """Parse the Kubernetes object of an AvatarAgent, which the API server has validated and defaulted."""
    metadata = resource["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    try:
        spec = AvatarAgentSpec.model_validate(resource.get("spec", {}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        return InvalidAgent(namespace, name, f"spec.{path}: {first['msg']}")
    status = resource.get("status") or {}
    conditions = {condition.get("type"): condition.get("status") for condition in status.get("conditions") or []}
    # The status has no agentName while the controller cannot use the spec. Running workers keep their name then.
    checked_name = status.get("agentName") or spec.registered_name(name)
    return Agent(
        namespace,
        name,
        spec,
        ready=conditions.get(ConditionType.READY) == ConditionStatus.TRUE,
        name_taken=conditions.get(ConditionType.NAME_UNIQUE) == ConditionStatus.FALSE,
        name_checked=ConditionType.NAME_UNIQUE in conditions and checked_name == spec.registered_name(name),
    )
