"""Conditions of an AvatarAgent: statements about the world that are true or false.

Source: sig-architecture ``api-conventions.md``, "Typical status properties". What the docstrings of the members say,
the reference page says.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pydantic import Field

from agentspec.model import Model


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    READY = "Ready"
    """The summary: nothing known keeps the agent from answering the calls that LiveKit sends to it. Otherwise reason
    and message are those of the first condition that does. The gateway takes calls for `dispatch.mode: Explicit` only;
    a `roomNamePattern` that it cannot make the names of rooms from is told in the message."""
    CREDENTIALS_VALID = "CredentialsValid"
    """Every Secret named exists with its keys, and LiveKit, OpenAI and Tavus accept the credentials."""
    NAME_UNIQUE = "NameUnique"
    """No older AvatarAgent holds the agent name on the same LiveKit server."""
    KNOWLEDGE_LOADED = "KnowledgeLoaded"
    """Every reference to knowledge, instructions or greeting leads to text."""
    AVATAR_AVAILABLE = "AvatarAvailable"
    """The next call would show a face, or none is declared. A call without one goes on as `avatar.onFailure` says."""
    WORKERS_REGISTERED = "WorkersRegistered"
    """Workers are registered with LiveKit under the declared agent name."""
    PROGRESSING = "Progressing"
    """A rollout is under way: not every worker runs the present configuration yet."""
    SCALING_LIMITED = "ScalingLimited"
    """Calls need more workers than `scaling.maxWorkers` allows."""


class Reason(StrEnum):
    """Why a condition is what it is. Constants: alerts and scripts match on them."""

    ALL_CHECKS_PASSED = "AllChecksPassed"
    """Everything is as declared."""
    INVALID_SPEC = "InvalidSpec"
    """The manifest asks for something that cannot be; the message names the field."""
    APPLY_REJECTED = "ApplyRejected"
    """The API server rejected an object that the manifest asks for, because of a quota or an admission policy."""
    NAME_CONFLICT = "NameConflict"
    """An object under the name of one of the agent's children belongs to somebody else."""
    APPLY_FAILED = "ApplyFailed"
    """The API server failed for 30 s to apply what the manifest asks for."""
    SUSPENDED = "Suspended"
    """`suspend: true`: workers finish their calls and leave."""

    SECRET_NOT_FOUND = "SecretNotFound"
    """A Secret that the manifest names does not exist."""
    SECRET_KEY_MISSING = "SecretKeyMissing"
    """A Secret lacks a key, or the key's value is empty or cannot be used."""
    SECRET_UNREADABLE = "SecretUnreadable"
    """The operator may not read the Secret (the message says which permission is missing), or the API server did not
    manage to (then the status is Unknown)."""
    CREDENTIALS_ACCEPTED = "CredentialsAccepted"
    """All keys were tried, and accepted."""
    CREDENTIALS_PENDING = "CredentialsPending"
    """LiveKit, OpenAI or Tavus is being asked whether it accepts its keys, and has not answered yet."""
    CREDENTIALS_REJECTED = "CredentialsRejected"
    """LiveKit, OpenAI or Tavus rejects the keys; the message says which."""
    LIVEKIT_UNREACHABLE = "LiveKitUnreachable"
    """The LiveKit server does not answer at `livekit.url`."""
    PROVIDER_UNREACHABLE = "ProviderUnreachable"
    """OpenAI or Tavus does not answer, so that its keys could not be tried. Workers run nevertheless."""

    NAME_UNIQUE = "NameUnique"
    """The agent name is this agent's alone."""
    NAME_TAKEN = "NameTaken"
    """An older AvatarAgent has the name; this one starts when it becomes free."""

    KNOWLEDGE_LOADED = "KnowledgeLoaded"
    """All texts were read."""
    NO_KNOWLEDGE_DECLARED = "NoKnowledgeDeclared"
    """The manifest names no knowledge."""
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    """A ConfigMap that the manifest names does not exist."""
    CONFIG_MAP_KEY_MISSING = "ConfigMapKeyMissing"
    """A ConfigMap lacks the key that the manifest names, or it is empty."""
    CONFIG_MAP_UNREADABLE = "ConfigMapUnreadable"
    """The operator may not read the ConfigMap, or the API server did not manage to (then the status is Unknown)."""
    KNOWLEDGE_EMPTY = "KnowledgeEmpty"
    """A ConfigMap of knowledge holds no text."""
    KNOWLEDGE_TOO_LARGE = "KnowledgeTooLarge"
    """The texts together are larger than a worker's configuration may be."""

    NO_AVATAR_DECLARED = "NoAvatarDeclared"
    """The agent has no face: `avatar.provider` is None."""
    AVATAR_SEATS_FREE = "AvatarSeatsFree"
    """The next call gets a face."""
    AVATAR_SEATS_TAKEN = "AvatarSeatsTaken"
    """All of `avatar.maxSessions` are in use."""
    AVATAR_FAILING = "AvatarFailing"
    """The last avatars did not come; the message says what the provider answered."""

    REGISTERED = "Registered"
    """Workers are registered and take calls."""
    NO_WORKERS_NEEDED = "NoWorkersNeeded"
    """No worker should run now; in mode Calls the next call starts one."""
    SCALED_TO_ZERO = "ScaledToZero"
    """The manifest asks for no worker, and no call would start one: nobody answers."""
    WORKERS_STARTING = "WorkersStarting"
    """Worker pods are not ready yet; the message says what Kubernetes says of them."""
    NOT_REGISTERED = "NotRegistered"
    """Worker pods run, and none is registered with LiveKit."""
    NAME_MISMATCH = "NameMismatch"
    """Workers are registered under another name than the declared one."""
    DRAINING = "Draining"
    """Workers finish their calls and leave."""

    ROLLED_OUT = "RolledOut"
    """Every worker runs the present configuration."""
    ROLLING_OUT = "RollingOut"
    """New workers are coming, old ones finish their calls; the message counts both."""
    ROLLOUT_PENDING = "RolloutPending"
    """A change was seen, and is rolled out once it has stood still for a moment: what comes together makes one."""
    ROLLOUT_BLOCKED = "RolloutBlocked"
    """A change is not rolled out because something it needs is missing; what ran before goes on."""

    WITHIN_LIMITS = "WithinLimits"
    """`scaling.maxWorkers` suffices."""
    MAX_WORKERS_REACHED = "MaxWorkersReached"
    """More workers are needed than `scaling.maxWorkers`."""


_INPUTS: Final = (
    Reason.SECRET_NOT_FOUND,
    Reason.SECRET_KEY_MISSING,
    Reason.SECRET_UNREADABLE,
    Reason.CREDENTIALS_PENDING,
    Reason.CREDENTIALS_REJECTED,
    Reason.LIVEKIT_UNREACHABLE,
)
_TEXTS: Final = (
    Reason.CONFIG_MAP_NOT_FOUND,
    Reason.CONFIG_MAP_KEY_MISSING,
    Reason.CONFIG_MAP_UNREADABLE,
    Reason.KNOWLEDGE_EMPTY,
    Reason.KNOWLEDGE_TOO_LARGE,
)
_WORKERS: Final = (Reason.SCALED_TO_ZERO, Reason.WORKERS_STARTING, Reason.NOT_REGISTERED, Reason.NAME_MISMATCH)

REASONS: Final[Mapping[ConditionType, tuple[Reason, ...]]] = {
    ConditionType.READY: (
        Reason.ALL_CHECKS_PASSED,
        Reason.INVALID_SPEC,
        Reason.APPLY_REJECTED,
        Reason.NAME_CONFLICT,
        Reason.APPLY_FAILED,
        Reason.SUSPENDED,
        *_INPUTS,
        Reason.NAME_TAKEN,
        *_TEXTS,
        *_WORKERS,
    ),
    ConditionType.CREDENTIALS_VALID: (Reason.CREDENTIALS_ACCEPTED, *_INPUTS, Reason.PROVIDER_UNREACHABLE),
    ConditionType.NAME_UNIQUE: (Reason.NAME_UNIQUE, Reason.NAME_TAKEN),
    ConditionType.KNOWLEDGE_LOADED: (Reason.KNOWLEDGE_LOADED, Reason.NO_KNOWLEDGE_DECLARED, *_TEXTS),
    ConditionType.AVATAR_AVAILABLE: (
        Reason.NO_AVATAR_DECLARED,
        Reason.AVATAR_SEATS_FREE,
        Reason.AVATAR_SEATS_TAKEN,
        Reason.AVATAR_FAILING,
    ),
    ConditionType.WORKERS_REGISTERED: (
        Reason.REGISTERED,
        Reason.NO_WORKERS_NEEDED,
        Reason.SUSPENDED,
        Reason.DRAINING,
        Reason.ROLLOUT_BLOCKED,
        *_WORKERS,
    ),
    ConditionType.PROGRESSING: (
        Reason.ROLLED_OUT,
        Reason.ROLLING_OUT,
        Reason.ROLLOUT_PENDING,
        Reason.ROLLOUT_BLOCKED,
        Reason.SUSPENDED,
        Reason.DRAINING,
    ),
    ConditionType.SCALING_LIMITED: (Reason.WITHIN_LIMITS, Reason.MAX_WORKERS_REACHED),
}
"""Which reasons a condition can have."""


class Condition(Model):
    """One condition, as ``metav1.Condition``."""

    type: ConditionType = Field(description="What the condition speaks of.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Reason = Field(description="A constant, CamelCase reason.")
    message: str = Field(max_length=32768, description="What a person should know, and do about it.")
    observed_generation: int = Field(default=0, ge=0, description="metadata.generation this was decided for.")
    last_transition_time: str | None = Field(
        default=None, json_schema_extra={"format": "date-time"}, description="When the status last changed, RFC 3339."
    )
