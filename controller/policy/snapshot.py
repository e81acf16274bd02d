"""The input of every decision: what was known of one AvatarAgent at one moment, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentspec import AvatarAgentSpec, DispatchMode, KnowledgeDocument
from agentspec.wire import StageReports
from controller.desired.identity import Owner
from controller.observation import Key, ObservedDeployment, ObservedObject, ObservedWorker
from controller.policy.avatar import AvatarFailure
from controller.policy.names import Claim, server_of
from controller.policy.rivals import Rival
from controller.policy.rollout import PendingTemplate
from controller.policy.scale import History
from controller.policy.verdict import Verdict


@dataclass(frozen=True, slots=True)
class ObservedAgent:
    """An AvatarAgent as the API server last sent it."""

    key: Key
    uid: str
    version: int
    """Resource version."""
    generation: int
    created: str
    """RFC 3339."""
    deleted: bool
    """Kubernetes has begun to delete it; the garbage collector removes its children."""
    spec: AvatarAgentSpec | Verdict = field(compare=False)
    """The typed spec, or why this release cannot use it."""
    status: Mapping[str, Any]

    @property
    def owner(self) -> Owner:
        """The owner of its children."""
        return Owner(self.key.namespace, self.key.name, self.uid)

    @property
    def claim(self) -> Claim | None:
        """The agent name that it claims on its LiveKit server; None when it claims none."""
        if self.deleted or isinstance(self.spec, Verdict):
            return None
        automatic = self.spec.dispatch.mode is DispatchMode.AUTOMATIC
        name = "" if automatic else self.spec.registered_name(self.key.name)
        return Claim(self.key, server_of(self.spec.livekit.url, self.key.namespace), name, self.created, self.uid)

    @property
    def is_reported(self) -> bool:
        """Whether the status describes the current generation."""
        return self.generation == self.status.get("observedGeneration")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What workers need besides the spec, and whether it is complete."""

    fault: Verdict | None
    """Why workers could not use the spec itself; None when they can."""
    credentials: Verdict
    credentials_fingerprint: str
    """Changes with every value that workers receive from Secrets, and from ConfigMaps as variables; empty while one is
    missing."""
    knowledge: Verdict
    instructions: str
    greeting: str
    documents: list[KnowledgeDocument]
    secret_variables: tuple[str, ...] = ()
    """Variables of own code whose values come from Secrets."""

    @property
    def usable(self) -> bool:
        """Whether workers may start from these inputs; otherwise running workers keep their configuration."""
        return self.fault is None and not self.credentials.blocks_rollout and not self.knowledge.blocks_rollout


@dataclass(frozen=True, slots=True)
class Instant:
    """The one reading of the clock in a reconcile."""

    monotonic: float
    """Seconds."""
    rfc3339: str
    """UTC, as Kubernetes writes it."""
    unix: float
    """The same in seconds."""


@dataclass(frozen=True, slots=True)
class NameClaims:
    """Who else has, or still uses, the agent name that an agent claims."""

    holder: Claim | None = None
    """The older claim that holds the name; None when the agent's own claim does."""
    user: Key | None = None
    """Another agent whose workers are still registered under the name; None when there is none."""

    @property
    def is_free(self) -> bool:
        """Whether the agent may use the name."""
        return self.holder is None and self.user is None


@dataclass(frozen=True, slots=True)
class Occupants:
    """The objects found under the names of an agent's children, by kind; None where there is no object."""

    children: tuple[tuple[str, ObservedObject | None], ...] = ()
    shared: tuple[tuple[str, ObservedObject | None], ...] = ()
    """Objects that serve a whole namespace."""
    error: Exception | None = None
    """Why the API server could not tell; then nothing is applied."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One AvatarAgent at one moment: agent, inputs, children, fleet and time."""

    key: Key
    now: Instant
    agent: ObservedAgent | None = None
    """None when the agent is gone."""
    spec: AvatarAgentSpec | None = None
    """The newest spec that this release could use; None when there never was one."""
    inputs: Inputs | None = None
    """None when the current spec cannot be used."""
    claims: NameClaims = field(default_factory=NameClaims)
    deployment: ObservedDeployment | None = None
    """The Deployment of its workers; None when there is none that belongs to this agent."""
    occupants: Occupants = field(default_factory=Occupants)
    workers: tuple[ObservedWorker, ...] = ()
    pending_calls: int = 0
    """Calls that wait for a slot, at all gateways."""
    avatar_failure: AvatarFailure | None = None
    stages: Mapping[str, StageReports] = field(default_factory=dict)
    """Newest outcomes of the requests to providers, by the digest of the pod template of the workers that sent them."""
    history: History = ()
    """How many workers the agent needed lately."""
    pending_rollout: PendingTemplate | None = None
    """A pod template that waits until changes settle."""
    rival: Rival | None = None
    """Another client that set the number of workers lately."""

    @property
    def registered_name(self) -> str:
        """The name that workers should register under; empty in automatic dispatch."""
        assert self.spec is not None
        explicit = self.spec.dispatch.mode is DispatchMode.EXPLICIT
        return self.spec.registered_name(self.key.name) if explicit else ""

    @property
    def may_start(self) -> bool:
        """Whether workers may start where none run: the inputs are usable, and nothing stops the agent."""
        suspended = self.spec is None or self.spec.suspend
        return self.inputs is not None and self.inputs.usable and not suspended and self.claims.is_free

    @property
    def replicas(self) -> int | None:
        """Workers that the Deployment asks for; None when there is no Deployment."""
        return None if self.deployment is None else self.deployment.replicas

    @property
    def template(self) -> str:
        """Digest of the pod template that the Deployment makes workers from; empty without a Deployment."""
        return "" if self.deployment is None else self.deployment.template
