"""Errors of the HTTP API, as problem documents (RFC 9457): a status, a constant reason, and what to do."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

MISDIRECTED: Final = 421
"""Status of a request that this gateway cannot answer, because another one owns its agent (RFC 9110, 15.5.20)."""
PROBLEM_TYPE_PREFIX: Final = "tag:avataragents.io,2026:"
"""The reason follows. A tag (RFC 4151) identifies the problem type and leads to no page."""


class ErrorReason(StrEnum):
    """Constant reasons that clients and alerts can match."""

    BAD_JSON = "BadJSON"
    INVALID_REQUEST = "InvalidRequest"
    UNSUPPORTED_MEDIA_TYPE = "UnsupportedMediaType"
    BODY_TOO_LARGE = "BodyTooLarge"
    BODY_TOO_SLOW = "BodyTooSlow"
    NOT_FOUND = "NotFound"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    AGENT_NOT_FOUND = "AgentNotFound"
    AGENT_INVALID = "AgentInvalid"
    AGENT_AUTOMATIC = "AgentAutomatic"
    SUSPENDED = "Suspended"
    NAME_TAKEN = "NameTaken"
    ROOM_NAME_MISMATCH = "RoomNameMismatch"
    ROOM_TAKEN = "RoomTaken"
    ROOM_NOT_FOUND = "RoomNotFound"
    NO_FREE_SLOT = "NoFreeSlot"
    NOT_ANSWERED = "NotAnswered"
    AGENT_DID_NOT_JOIN = "AgentDidNotJoin"
    CREDENTIALS_MISSING = "CredentialsMissing"
    UNAUTHORIZED = "Unauthorized"
    ORIGIN_NOT_ALLOWED = "OriginNotAllowed"
    RATE_LIMITED = "RateLimited"
    TOO_MANY_PENDING = "TooManyPending"
    IDEMPOTENCY_KEY_REUSED = "IdempotencyKeyReused"
    CALL_OVER = "CallOver"
    CALL_NOT_FOUND = "CallNotFound"
    LIVEKIT_UNREACHABLE = "LiveKitUnreachable"
    LIVEKIT_REFUSED = "LiveKitRefused"
    ISSUER_UNREACHABLE = "IssuerUnreachable"
    NOT_READY = "NotReady"
    OWNER_UNREACHABLE = "OwnerUnreachable"
    INTERNAL = "Internal"


TITLES: Final[Mapping[ErrorReason, str]] = {
    ErrorReason.BAD_JSON: "The body is not JSON",
    ErrorReason.INVALID_REQUEST: "The request is not valid",
    ErrorReason.UNSUPPORTED_MEDIA_TYPE: "The content type is not supported",
    ErrorReason.BODY_TOO_LARGE: "The body is too large",
    ErrorReason.BODY_TOO_SLOW: "The body arrives too slowly",
    ErrorReason.NOT_FOUND: "The path does not exist",
    ErrorReason.METHOD_NOT_ALLOWED: "The method is not allowed",
    ErrorReason.AGENT_NOT_FOUND: "The agent does not exist",
    ErrorReason.AGENT_INVALID: "The agent is not valid",
    ErrorReason.AGENT_AUTOMATIC: "The agent is not dispatched by name",
    ErrorReason.SUSPENDED: "The agent is suspended",
    ErrorReason.NAME_TAKEN: "Another agent has the name",
    ErrorReason.ROOM_NAME_MISMATCH: "The room's name does not match",
    ErrorReason.ROOM_TAKEN: "The room is in use",
    ErrorReason.ROOM_NOT_FOUND: "The room does not exist",
    ErrorReason.NO_FREE_SLOT: "All agents are busy",
    ErrorReason.NOT_ANSWERED: "No worker accepted the dispatch",
    ErrorReason.AGENT_DID_NOT_JOIN: "The agent did not join",
    ErrorReason.CREDENTIALS_MISSING: "The credentials are missing",
    ErrorReason.UNAUTHORIZED: "Credentials are required",
    ErrorReason.ORIGIN_NOT_ALLOWED: "The origin is not allowed",
    ErrorReason.RATE_LIMITED: "Too many requests",
    ErrorReason.TOO_MANY_PENDING: "Too many calls are waiting",
    ErrorReason.IDEMPOTENCY_KEY_REUSED: "The idempotency key is in use",
    ErrorReason.CALL_OVER: "The call is over",
    ErrorReason.CALL_NOT_FOUND: "The call does not exist",
    ErrorReason.LIVEKIT_UNREACHABLE: "LiveKit is unreachable",
    ErrorReason.LIVEKIT_REFUSED: "LiveKit refused the request",
    ErrorReason.ISSUER_UNREACHABLE: "The token's issuer is unreachable",
    ErrorReason.NOT_READY: "The gateway is starting",
    ErrorReason.OWNER_UNREACHABLE: "The gateway of the agent is unreachable",
    ErrorReason.INTERNAL: "Internal error",
}
"""The title of each reason: the same for every problem with that reason."""


class RequestError(Exception):
    """A failed request, answered with a problem document."""

    def __init__(
        self, status: int, reason: ErrorReason, message: str, *, field: str = "", retry_after_seconds: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.field = field
        """Dotted path of the wrong field or parameter; empty: the error is not about one."""
        self.retry_after_seconds = retry_after_seconds
        """Seconds after which the client should retry; 0: a retry does not help."""
        self.allow = ""
        """The methods that the path supports, for status 405."""
        self.extension: Mapping[str, object] = {}
        """Members that the problem document has in addition, for clients of one operation."""

    def document(self) -> dict[str, object]:
        """Return the problem document."""
        problem = {
            "type": PROBLEM_TYPE_PREFIX + self.reason.value,
            "title": TITLES[self.reason],
            "status": self.status,
            "detail": self.message,
            "reason": self.reason.value,
        }
        return problem | ({"field": self.field} if self.field else {}) | dict(self.extension)

    def headers(self) -> dict[str, str]:
        """Return the response headers that belong to the error."""
        headers = {"Retry-After": str(self.retry_after_seconds)} if self.retry_after_seconds else {}
        headers |= {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return headers | ({"Allow": self.allow} if self.allow else {})


def moved() -> RequestError:
    """Return the answer to a forwarded request whose agent this gateway does not own. The sender forwards it again."""
    message = "This gateway does not own the agent now. Try again in a second."
    return RequestError(MISDIRECTED, ErrorReason.OWNER_UNREACHABLE, message, retry_after_seconds=1)
