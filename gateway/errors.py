"""Errors of the HTTP API: a status, a constant reason, and a message that says what happened and what to do."""

from enum import StrEnum


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
    NOT_READY = "NotReady"
    INTERNAL = "Internal"


class RequestError(Exception):
    """A failed request, answered with the status and ``{"error": {"reason", "message", "field"}}``."""

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

    def document(self) -> dict[str, object]:
        """Return the response body."""
        error = {"reason": self.reason.value, "message": self.message}
        return {"error": error | ({"field": self.field} if self.field else {})}

    def headers(self) -> dict[str, str]:
        """Return the response headers that belong to the error."""
        headers = {"Retry-After": str(self.retry_after_seconds)} if self.retry_after_seconds else {}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})
