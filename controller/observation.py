"""What the controller has seen, as plain values: the input of every decision in ``controller.policy``."""

from collections.abc import Mapping
from dataclasses import dataclass
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
class SecretSeen:
    """A Secret, without its values."""

    name: str
    keys: frozenset[str] | None
    """Keys that hold a value; None: there is no such Secret."""


@dataclass(frozen=True, slots=True)
class KnowledgeSeen:
    """A ConfigMap of knowledge."""

    name: str
    texts: Mapping[str, str] | None
    """Text by key; None: there is no such ConfigMap."""


class LiveKitVerdict(StrEnum):
    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    UNREACHABLE = "Unreachable"


@dataclass(frozen=True, slots=True)
class LiveKitAnswer:
    """What became of an authenticated request to LiveKit."""

    verdict: LiveKitVerdict
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A worker pod."""

    name: str
    ip: str
    running: bool
    """Its container has been started and has not ended."""
    ready: bool
    terminating: bool
    deletion_cost: str | None
    """Value of the annotation controller.kubernetes.io/pod-deletion-cost."""
    trouble: str
    """Why it cannot start, in the words of Kubernetes; empty: nothing known against it."""
    config_map: str
    """Name of the configuration it was started with."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker pod and what it last said of itself."""

    pod: PodSeen
    status: WorkerStatus | None
    """None: it never answered, or not for too long."""
