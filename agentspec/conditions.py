"""Conditions of an AvatarAgent, and the reasons that each can have.

Source: sig-architecture ``api-conventions.md``, "Typical status properties". The reference page shows the docstrings of
the members.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, WithJsonSchema

from agentspec.model import Model


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    READY = "Ready"
    """The summary: the agent can answer the calls that LiveKit sends to it. When it cannot, reason and message are
    those of the first condition that says why. The gateway takes calls only with `dispatch.mode: Explicit`; the message
    says when it cannot make room names from `roomNamePattern`."""
    CREDENTIALS_VALID = "CredentialsValid"
    """Every Secret, and every ConfigMap that `worker.env` and `worker.envFrom` refer to, exists with its keys. LiveKit,
    OpenAI and Tavus accept the credentials."""
    NAME_UNIQUE = "NameUnique"
    """No older AvatarAgent has the agent name on the same LiveKit server."""
    KNOWLEDGE_LOADED = "KnowledgeLoaded"
    """Every reference to knowledge, instructions or a greeting leads to text."""
    AVATAR_AVAILABLE = "AvatarAvailable"
    """The next call gets an avatar, or no avatar is declared. A call without its avatar continues or ends, as
    `avatar.onFailure` says."""
    PROVIDERS_HEALTHY = "ProvidersHealthy"
    """The last requests of stt, llm and tts succeeded. Workers report every outcome in a call, and try each stage once
    when they start. Only workers with the current configuration count, and those that drain do not."""
    WORKERS_REGISTERED = "WorkersRegistered"
    """Workers are registered with LiveKit under the agent name."""
    PROGRESSING = "Progressing"
    """A rollout is in progress: some workers do not run the current configuration yet."""
    SCALING_LIMITED = "ScalingLimited"
    """Calls need more workers than `scaling.maxWorkers` allows, or another client sets the number of workers."""


class Reason(StrEnum):
    """Why a condition has its status. Alerts and scripts match on these constants."""

    ALL_CHECKS_PASSED = "AllChecksPassed"
    """All conditions are as they should be."""
    INVALID_SPEC = "InvalidSpec"
    """The manifest contains a contradiction or an invalid value. The message names the field."""
    APPLY_REJECTED = "ApplyRejected"
    """The API server rejected an object of the agent, for example because of a quota or an admission policy. The
    message contains its answer."""
    NAME_CONFLICT = "NameConflict"
    """An object with the name that the controller needs exists and has another owner. The message names the object."""
    APPLY_FAILED = "ApplyFailed"
    """The API server has failed to apply an object of the agent for 30 seconds. The controller retries."""
    SUSPENDED = "Suspended"
    """`suspend` is true: workers finish their calls and terminate."""

    SECRET_NOT_FOUND = "SecretNotFound"
    """A Secret that the manifest refers to does not exist."""
    SECRET_KEY_MISSING = "SecretKeyMissing"
    """A Secret lacks a key, or the value of the key is empty or unusable."""
    SECRET_UNREADABLE = "SecretUnreadable"
    """The controller may not read the Secret: the message names the missing permission. With status Unknown, the API
    server failed to return the Secret."""
    CREDENTIALS_ACCEPTED = "CredentialsAccepted"
    """LiveKit and all providers accepted their credentials."""
    CREDENTIALS_PENDING = "CredentialsPending"
    """The controller is probing credentials and has no answer yet."""
    CREDENTIALS_REJECTED = "CredentialsRejected"
    """LiveKit, OpenAI or Tavus rejects the credentials. The message says which."""
    LIVEKIT_UNREACHABLE = "LiveKitUnreachable"
    """The LiveKit server at `livekit.url` is unreachable."""
    PROVIDER_UNREACHABLE = "ProviderUnreachable"
    """OpenAI or Tavus is unreachable, so that the controller cannot probe the credentials. Workers run nevertheless."""

    NAME_UNIQUE = "NameUnique"
    """No other AvatarAgent has the agent name on this LiveKit server."""
    NAME_TAKEN = "NameTaken"
    """An older AvatarAgent has the agent name. This agent starts when the name becomes free."""

    KNOWLEDGE_LOADED = "KnowledgeLoaded"
    """The controller read all texts."""
    KNOWLEDGE_PARTLY_LOADED = "KnowledgePartlyLoaded"
    """The controller could not read some keys. The message names each with its fault; the agent has the other texts."""
    NO_KNOWLEDGE_DECLARED = "NoKnowledgeDeclared"
    """The manifest contains no knowledge."""
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    """A ConfigMap that the manifest refers to does not exist."""
    CONFIG_MAP_KEY_MISSING = "ConfigMapKeyMissing"
    """A ConfigMap lacks the key that the manifest refers to, or the value of the key is empty."""
    CONFIG_MAP_UNREADABLE = "ConfigMapUnreadable"
    """The controller may not read the ConfigMap. With status Unknown, the API server failed to return it."""
    KNOWLEDGE_EMPTY = "KnowledgeEmpty"
    """A ConfigMap of knowledge contains no text."""
    KNOWLEDGE_TOO_LARGE = "KnowledgeTooLarge"
    """Knowledge and instructions exceed 256 KiB together, or the greeting exceeds 1024 characters."""

    NO_AVATAR_DECLARED = "NoAvatarDeclared"
    """The agent has no avatar: `avatar.provider` is None."""
    AVATAR_SEATS_FREE = "AvatarSeatsFree"
    """The next call gets an avatar."""
    AVATAR_SEATS_TAKEN = "AvatarSeatsTaken"
    """All seats of `avatar.maxSessions` are in use."""
    AVATAR_FAILING = "AvatarFailing"
    """The last avatar failed. The message contains the provider's answer."""
    AVATAR_PLUGIN_FAILED = "AvatarPluginFailed"
    """Workers cannot use the plugin of `avatar.plugin`. The message says which option is wrong, and what the plugin
    takes."""

    PROVIDERS_SUCCEEDED = "ProvidersSucceeded"
    """The last request of each stage succeeded."""
    PROVIDERS_PENDING = "ProvidersPending"
    """No worker with the current configuration has reported a successful request of each stage yet."""
    TOOLS_FAILING = "ToolsFailing"
    """An MCP server of `spec.tools` cannot be used. Calls continue without its tools."""
    QUOTA_EXHAUSTED = "QuotaExhausted"
    """The provider answers `insufficient_quota`: the account's balance or its limit is used up."""
    RATE_LIMITED = "RateLimited"
    """The provider answers 429, also to retries: more requests than the account may send."""
    KEY_REJECTED = "KeyRejected"
    """The provider answers 401 or 403 in a call."""
    MODEL_NOT_FOUND = "ModelNotFound"
    """The provider does not know a model, or does not allow it for the key. The message names the field."""
    REQUEST_REJECTED = "RequestRejected"
    """The provider answers 400, for example to an unknown voice. The message names the field."""
    CONTEXT_TOO_LONG = "ContextTooLong"
    """Instructions, knowledge and conversation together are too long for the language model."""
    EMPTY_REPLIES = "EmptyReplies"
    """The language model answers with nothing, for example because reasoning used all its tokens."""
    STAGE_SETTINGS_INVALID = "StageSettingsInvalid"
    """Workers cannot use the settings of a stage: they run and do not register. The message names the field."""
    PROVIDER_FAILING = "ProviderFailing"
    """The provider answers with a server error, or not at all. The message says which."""

    REGISTERED = "Registered"
    """Workers are registered and take calls."""
    PARTLY_REGISTERED = "PartlyRegistered"
    """Workers are registered and take calls, but others cannot start, are lost, or cannot use the agent's own code. The
    message says why."""
    NO_WORKERS_NEEDED = "NoWorkersNeeded"
    """No worker needs to run now. In mode Calls the next call starts one."""
    SCALED_TO_ZERO = "ScaledToZero"
    """The manifest allows no worker, and no call would start one: nothing answers calls."""
    WORKERS_STARTING = "WorkersStarting"
    """Worker pods are not ready yet. The message contains the state that Kubernetes reports."""
    NOT_REGISTERED = "NotRegistered"
    """Worker pods cannot start, or they run and none is registered with LiveKit. The message says which."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The image of the workers cannot be pulled. The message contains the answer of the container runtime."""
    WORKERS_LOST = "WorkersLost"
    """Worker pods run, but none reports its status: the process hangs, or its node or network has failed."""
    AGENT_CODE_FAILED = "AgentCodeFailed"
    """Workers cannot use the code of `worker.agent`: they run and do not register. The message has the last line of
    the traceback."""
    NAME_MISMATCH = "NameMismatch"
    """Workers are registered under a name other than the agent name."""
    DRAINING = "Draining"
    """Workers finish their calls and then terminate."""

    ROLLED_OUT = "RolledOut"
    """Every worker runs the current configuration."""
    ROLLING_OUT = "RollingOut"
    """New workers start while old ones finish their calls. The message counts both."""
    ROLLOUT_PENDING = "RolloutPending"
    """The controller waits a moment for further changes before it rolls out the last one."""
    ROLLOUT_BLOCKED = "RolloutBlocked"
    """The controller does not roll out a change, because something that it needs is missing. Running workers keep the
    last valid configuration."""

    WITHIN_LIMITS = "WithinLimits"
    """`scaling.maxWorkers` is enough for all calls."""
    MAX_WORKERS_REACHED = "MaxWorkersReached"
    """Calls need more workers than `scaling.maxWorkers`."""
    REPLICAS_CONTESTED = "ReplicasContested"
    """Another client sets the replicas of the workers' Deployment. The message names it. Its number stays for some
    minutes."""


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
_WORKERS: Final = (
    Reason.SCALED_TO_ZERO,
    Reason.WORKERS_STARTING,
    Reason.NOT_REGISTERED,
    Reason.IMAGE_PULL_FAILED,
    Reason.WORKERS_LOST,
    Reason.AGENT_CODE_FAILED,
    Reason.NAME_MISMATCH,
)

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
    ConditionType.CREDENTIALS_VALID: (
        Reason.CREDENTIALS_ACCEPTED,
        *_INPUTS,
        Reason.CONFIG_MAP_NOT_FOUND,
        Reason.CONFIG_MAP_KEY_MISSING,
        Reason.CONFIG_MAP_UNREADABLE,
        Reason.PROVIDER_UNREACHABLE,
    ),
    ConditionType.NAME_UNIQUE: (Reason.NAME_UNIQUE, Reason.NAME_TAKEN),
    ConditionType.KNOWLEDGE_LOADED: (
        Reason.KNOWLEDGE_LOADED,
        Reason.KNOWLEDGE_PARTLY_LOADED,
        Reason.NO_KNOWLEDGE_DECLARED,
        *_TEXTS,
    ),
    ConditionType.AVATAR_AVAILABLE: (
        Reason.NO_AVATAR_DECLARED,
        Reason.AVATAR_SEATS_FREE,
        Reason.AVATAR_SEATS_TAKEN,
        Reason.AVATAR_FAILING,
        Reason.AVATAR_PLUGIN_FAILED,
    ),
    ConditionType.PROVIDERS_HEALTHY: (
        Reason.PROVIDERS_SUCCEEDED,
        Reason.PROVIDERS_PENDING,
        Reason.QUOTA_EXHAUSTED,
        Reason.RATE_LIMITED,
        Reason.KEY_REJECTED,
        Reason.MODEL_NOT_FOUND,
        Reason.REQUEST_REJECTED,
        Reason.TOOLS_FAILING,
        Reason.CONTEXT_TOO_LONG,
        Reason.EMPTY_REPLIES,
        Reason.PROVIDER_FAILING,
        Reason.STAGE_SETTINGS_INVALID,
    ),
    ConditionType.WORKERS_REGISTERED: (
        Reason.REGISTERED,
        Reason.PARTLY_REGISTERED,
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
    ConditionType.SCALING_LIMITED: (Reason.WITHIN_LIMITS, Reason.MAX_WORKERS_REACHED, Reason.REPLICAS_CONTESTED),
}
"""The reasons that each condition can have."""


def _open(longest: int) -> WithJsonSchema:
    """The schema of a value that releases add to. During an upgrade, the controller of one release writes statuses
    under the CRD of another; an enumeration would make the API server reject them. Bounds as in ``metav1.Condition``.
    """
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": longest})


class Condition(Model):
    """One condition, as ``metav1.Condition``."""

    type: Annotated[ConditionType, _open(316)] = Field(description="Type of the condition.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Annotated[Reason, _open(1024)] = Field(description="Reason for the status: a constant in CamelCase.")
    message: str = Field(max_length=32768, description="Explanation for people: what happened, and what to do.")
    observed_generation: int = Field(default=0, ge=0, description="metadata.generation that the controller evaluated.")
    last_transition_time: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="Time of the last change of the status, RFC 3339.",
    )
