"""Conditions of an AvatarAgent: statements about the world that are true or false.

Source: sig-architecture ``api-conventions.md``, "Typical status properties".
"""

from enum import StrEnum

from pydantic import Field

from agentspec.model import Model


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    READY = "Ready"
    """The summary: a call to this agent would be answered."""
    CREDENTIALS_VALID = "CredentialsValid"
    """Every Secret named exists with its keys, and LiveKit accepts the credentials."""
    KNOWLEDGE_LOADED = "KnowledgeLoaded"
    """Every knowledge reference leads to text."""
    WORKERS_REGISTERED = "WorkersRegistered"
    """Workers are registered with LiveKit under the declared agent name."""


class Reason(StrEnum):
    """Why a condition is what it is. Constants: alerts and scripts match on them."""

    INVALID_SPEC = "InvalidSpec"
    APPLY_REFUSED = "ApplyRefused"
    ALL_CHECKS_PASSED = "AllChecksPassed"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_KEY_MISSING = "SecretKeyMissing"
    CREDENTIALS_ACCEPTED = "CredentialsAccepted"
    CREDENTIALS_REJECTED = "CredentialsRejected"
    LIVEKIT_UNREACHABLE = "LiveKitUnreachable"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    KNOWLEDGE_EMPTY = "KnowledgeEmpty"
    KNOWLEDGE_TOO_LARGE = "KnowledgeTooLarge"
    KNOWLEDGE_READ = "KnowledgeRead"
    NO_KNOWLEDGE_DECLARED = "NoKnowledgeDeclared"
    NO_WORKERS_WANTED = "NoWorkersWanted"
    WORKERS_STARTING = "WorkersStarting"
    NOT_REGISTERED = "NotRegistered"
    NAME_MISMATCH = "NameMismatch"
    REGISTERED = "Registered"


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
