"""For how long requests about a call go before the decision about it. Pure.

Such a request asks LiveKit something, or repairs the room. While it fails, nothing is decided about the call. So it
goes first for a bounded time only. Afterwards, the gateway decides as if nothing were known, and time limits apply.
"""

from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 5.0
"""Requests that fail go first for so long from the first failure."""
AGAIN_SECONDS: Final = 10.0
"""Afterwards, one request goes first again this long after the last failure."""


@dataclass(slots=True)
class _Failures:
    """Failures without a success between them. Unix seconds."""

    first_at: float
    last_at: float


class Retries:
    """Failed requests by call id."""

    def __init__(self) -> None:
        self._failures: dict[str, _Failures] = {}

    def goes_first(self, call_id: str, now: float) -> bool:
        """Return whether a request about a call goes before the decision about it."""
        failures = self._failures.get(call_id)
        if failures is None:
            return True
        return now - failures.first_at < FIRST_SECONDS or now - failures.last_at >= AGAIN_SECONDS

    def failed(self, call_id: str, now: float) -> None:
        """Take in that a request about a call failed."""
        self._failures.setdefault(call_id, _Failures(now, now)).last_at = now

    def succeeded(self, call_id: str) -> None:
        """Take in that a request about a call succeeded, or that the call is over."""
        self._failures.pop(call_id, None)
