"""What can go wrong with a request: a status, a constant reason and a message that says what to do."""

from enum import StrEnum


class ErrorReason(StrEnum):
    """Constants: clients and alerts match on them."""

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
    """Answered as ``{"error": {"reason", "message"}}`` with the given HTTP status."""

    def __init__(
        self, status: int, reason: ErrorReason, message: str, *, field: str = "", retry_after_seconds: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.field = field
        """Where in the request body the mistake is, as a dotted path; empty: not in the body."""
        self.retry_after_seconds = retry_after_seconds
        """When trying again makes sense; 0: it makes none."""

    def document(self) -> dict[str, object]:
        """The response body."""
        error = {"reason": self.reason.value, "message": self.message}
        return {"error": error | ({"field": self.field} if self.field else {})}

    def headers(self) -> dict[str, str]:
        headers = {"Retry-After": str(self.retry_after_seconds)} if self.retry_after_seconds else {}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})
