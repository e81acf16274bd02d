"""Observations as plain values: the input of every decision in ``controller.policy``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from agentspec import WorkerStatus
from agentspec.wire import agent_key


class Key(NamedTuple):
    """Namespace and name of one AvatarAgent."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return agent_key(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """Why an object that a manifest names could not be read."""

    message: str
    """The API server's own message."""
    permanent: bool
    """Whether the API server refused the request. Otherwise a retry may succeed."""


@dataclass(frozen=True, slots=True)
class ObservedSecret:
    """A Secret, without its values."""

    name: str
    keys: frozenset[str] | None
    """Keys that have a value; None: the Secret does not exist or could not be read."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Keys whose value cannot be used, each with the reason."""
    read_failure: ReadFailure | None = None
    """None: the object could be read."""
    signing_keys: frozenset[str] = frozenset()
    """Keys whose value can sign reports."""


@dataclass(frozen=True, slots=True)
class ObservedConfigMap:
    """A ConfigMap that the manifest refers to for knowledge, instructions or greeting."""

    name: str
    texts: Mapping[str, str] | None
    """Text by key; None: the ConfigMap does not exist or could not be read."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Keys whose value is no text that can be read, each with the reason."""
    read_failure: ReadFailure | None = None
    """None: the object could be read."""


class Provider(StrEnum):
    """A service whose credentials an agent uses."""

    LIVEKIT = "LiveKit"
    OPENAI = "OpenAI"
    TAVUS = "Tavus"


class ProviderVerdict(StrEnum):
    """The result of a credentials probe."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    UNREACHABLE = "Unreachable"
    PENDING = "Pending"
    """The first probe has not finished."""


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """The outcome of an authenticated request to a provider."""

    verdict: ProviderVerdict
    detail: str = ""
    """Why; with `ACCEPTED`, a warning that continues the sentence "the provider accepts the key but …"."""


@dataclass(frozen=True, slots=True)
class StartWait:
    """What a pod that has not started waits for. Every pod passes through this, and some stay."""

    state: str
    """In Kubernetes' words, where it has some."""
    since: str
    """RFC 3339."""
    unix: float
    """The same in seconds."""
    container: str = ""
    """The container that it waits for; empty: the worker, or the pod itself."""


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """A worker pod."""

    name: str
    ip: str
    running: bool
    """Its container has started and has not terminated."""
    ready: bool
    terminating: bool
    ended: bool
    """All its containers have terminated and will not be restarted."""
    annotations: Mapping[str, str]
    """Those of its annotations that the controller may set."""
    start_failure: str
    """Why it cannot start, as Kubernetes reports it; empty: no failure is known."""
    config_map: str
    """Name of the ConfigMap with its configuration."""
    template: str
    """Digest of the pod template that it was created from."""
    created: float = 0.0
    """When it was created, in Unix seconds; Kubernetes records whole ones."""
    failed_container: str = ""
    """The container of `start_failure`; empty: the worker, or the pod itself."""
    start_wait: StartWait | None = None
    """None: its containers have started."""
    node: str = ""
    """The node that it is bound to; empty: none yet."""


@dataclass(frozen=True, slots=True)
class ObservedObject:
    """A child's metadata: enough to decide who owns it and whether another client edited it."""

    namespace: str
    name: str
    uid: str
    generation: int
    """`metadata.generation`, which counts changes of the spec; 0 for kinds without one."""
    labels: Mapping[str, str]
    owners: tuple[tuple[str, str, str], ...]
    """Kind, name and uid of each owner."""
    applied: bool = False
    """Whether this controller applied the object, according to its managed fields."""
    content: str = ""
    """Other fields to compare, for a kind without a generation."""


@dataclass(frozen=True, slots=True)
class ReplicasWriter:
    """Another client's write of a Deployment's `spec.replicas`, from the managed fields."""

    manager: str
    """Field manager."""
    scaled: bool
    """Whether it used the scale subresource, as autoscalers and `kubectl scale` do."""
    time: str
    """RFC 3339."""
    replicas: int
    """The number that it set."""


@dataclass(frozen=True, slots=True)
class ObservedDeployment:
    """The Deployment of an agent's workers."""

    object: ObservedObject
    replicas: int
    """`spec.replicas`."""
    template: str
    """Digest of the pod template that was applied last."""
    create_failure: str
    """Why it cannot create pods (quota, admission policy); empty: it can."""
    replicas_writer: ReplicasWriter | None = None
    """Who else set `replicas`; None: the controller alone did."""


@dataclass(frozen=True, slots=True)
class ObservedWorker:
    """A worker pod and its latest status report."""

    pod: ObservedPod
    status: WorkerStatus | None
    """None: the worker never reported, or its last report is too old."""
    reporting_seconds: float = 0.0
    """Seconds since the worker process first reported."""
    idle_seconds: float = 0.0
    """Seconds since the worker process last reported a call; without one, since it first reported."""
    unregistered_seconds: float | None = None
    """Seconds since the worker process last took calls: it was registered and did not drain. None: it never did, as far
    as this controller knows."""
    hangs_idle: bool = False
    """Whether its process hangs, and had no call when it last reported. It can have accepted none since."""
