"""The AvatarAgents that calls can be made to."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from agentspec import AvatarAgentSpec, ConditionStatus, ConditionType
from agentspec.wire import agent_key


@dataclass(frozen=True)
class Agent:
    """One AvatarAgent as the gateway knows it."""

    namespace: str
    name: str
    spec: AvatarAgentSpec = field(repr=False)
    ready: bool
    name_taken: bool = False
    """Another AvatarAgent holds its name at the same LiveKit server: calls would reach that one's workers."""
    name_checked: bool = True
    """The controller has looked at its present name; before, nobody knows whose workers a call would reach."""

    @property
    def key(self) -> str:
        return agent_key(self.namespace, self.name)

    @property
    def agent_name(self) -> str:
        """The name that workers register under, and that calls are dispatched to."""
        return self.spec.registered_name(self.name)


@dataclass(frozen=True)
class InvalidAgent:
    """An AvatarAgent whose spec this release does not understand."""

    namespace: str
    name: str
    error: str

    @property
    def key(self) -> str:
        return agent_key(self.namespace, self.name)


class AgentDirectory(Protocol):
    """Where agents are looked up; answers from memory."""

    @property
    def synced(self) -> bool:
        """Whether every AvatarAgent has been seen once."""

    async def wait_synced(self) -> None: ...

    def get(self, namespace: str, name: str) -> Agent | InvalidAgent | None: ...

    def all(self) -> list[Agent | InvalidAgent]: ...


def parse_agent(resource: dict[str, Any]) -> Agent | InvalidAgent:
    """An AvatarAgent from its Kubernetes object, which the API server has validated and defaulted."""
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
    # The status names none while the spec is one that the controller cannot use: its workers go on under their name.
    checked_name = status.get("agentName") or spec.registered_name(name)
    return Agent(
        namespace,
        name,
        spec,
        ready=conditions.get(ConditionType.READY) == ConditionStatus.TRUE,
        name_taken=conditions.get(ConditionType.NAME_UNIQUE) == ConditionStatus.FALSE,
        name_checked=ConditionType.NAME_UNIQUE in conditions and checked_name == spec.registered_name(name),
    )
