"""What the controller has seen, as plain values: the input of every decision in ``controller.policy``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from agentspec import WorkerStatus
from agentspec.wire import agent_key


class Key(NamedTuple):
    """Names one AvatarAgent."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return agent_key(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """Why an object that a manifest names could not be read."""

    words: str
    """The API server's own."""
    lasting: bool
    """It takes a person to change that; else trying again may help."""


@dataclass(frozen=True, slots=True)
class ObservedSecret:
    """A Secret, without its values."""

    name: str
    keys: frozenset[str] | None
    """Keys that hold a value; None: there is no such Secret, or it could not be read."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Keys whose value nobody can use, each with what is wrong with it."""
    problem: ReadFailure | None = None
    """None: it could be read."""


@dataclass(frozen=True, slots=True)
class ObservedConfigMap:
    """A ConfigMap of knowledge."""

    name: str
    texts: Mapping[str, str] | None
    """Text by key; None: there is no such ConfigMap, or it could not be read."""
    problem: ReadFailure | None = None
    """None: it could be read."""


class Provider(StrEnum):
    """Whose credentials an agent uses."""

    LIVEKIT = "LiveKit"
    OPENAI = "OpenAI"
    TAVUS = "Tavus"


class ProviderVerdict(StrEnum):
    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    UNREACHABLE = "Unreachable"
    AWAITED = "Awaited"
    """It is being asked for the first time."""


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What became of an authenticated request to a provider."""

    verdict: ProviderVerdict
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """A worker pod."""

    name: str
    ip: str
    running: bool
    """Its container has been started and has not ended."""
    ready: bool
    terminating: bool
    ended: bool
    """All its containers have ended, and none is started again."""
    deletion_cost: str | None
    """Value of the annotation controller.kubernetes.io/pod-deletion-cost."""
    trouble: str
    """Why it cannot start, in the words of Kubernetes; empty: nothing known against it."""
    config_map: str
    """Name of the configuration it was started with."""
    template: str
    """Digest of the pod template it was made from."""


@dataclass(frozen=True, slots=True)
class ObservedObject:
    """A child, in what tells whose it is and whether somebody changed it."""

    namespace: str
    name: str
    uid: str
    generation: int
    """Counts changes of the spec; 0 for kinds that have none."""
    labels: Mapping[str, str]
    owners: tuple[tuple[str, str, str], ...]
    """Kind, name and uid of each owner."""
    applied: bool = False
    """This controller has a part in it, as its managed fields say."""
    content: str = ""
    """What else matters of a kind without a generation."""


@dataclass(frozen=True, slots=True)
class ObservedDeployment:
    """The Deployment of an agent's workers."""

    object: ObservedObject
    replicas: int
    """Workers asked for."""
    template: str
    """Digest of the pod template that was applied last."""
    trouble: str
    """Why it cannot make pods (quota, admission); empty: it can."""


@dataclass(frozen=True, slots=True)
class ObservedWorker:
    """A worker pod and what it last said of itself."""

    pod: ObservedPod
    status: WorkerStatus | None
    """None: it never answered, or not for too long."""
    heard_seconds: float = 0.0
    """Since it said its first word."""
