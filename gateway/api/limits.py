"""Rate limits of requests for calls: by address, by key and by agent."""

import time
from dataclasses import dataclass

from gateway.errors import ErrorReason, RequestError

MAX_TRACKED = 10_000
"""Number of addresses, keys or agents that one rate limit tracks; it evicts the least recently used."""


class RateLimit:
    """A token bucket for each client. One burst may take as many tokens as a minute adds."""

    def __init__(self, per_minute: int, message: str) -> None:
        """``message`` explains a rejection to the client."""
        self._rate = per_minute / 60
        self._burst = float(per_minute)
        self._message = message
        self._buckets: dict[str, tuple[float, float]] = {}

    def count(self, who: str) -> None:
        """Count one request.

        Raises:
            RequestError: 429 with Retry-After, the limit is reached.
        """
        wait = self.take_token(who, time.monotonic())
        if wait:
            raise RequestError(429, ErrorReason.RATE_LIMITED, self._message, retry_after_seconds=int(wait) + 1)

    def take_token(self, who: str, now: float) -> float:
        """Take one token. Return 0, or without a token the seconds until one is available."""
        tokens, at = self._buckets.pop(who, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        allowed = tokens >= 1
        self._buckets[who] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > MAX_TRACKED:
            self._buckets.pop(next(iter(self._buckets)))
        return 0.0 if allowed else (1 - tokens) / self._rate


@dataclass(frozen=True)
class Limits:
    """The rate limits of one gateway. Each gateway counts for itself."""

    address: RateLimit
    """Requests without a valid key, by address."""
    key: RateLimit
    """Requests with a valid key, by key."""
    agent: RateLimit
    """Authorized requests, by agent."""
    webhook: RateLimit
    """Webhooks without a valid signature, by address. Those of a wrong key take nothing from callers' limits."""


def create_limits(per_address: int, per_key: int, per_agent: int) -> Limits:
    """Create the rate limits from the calls that each allows in a minute."""
    retry = "Try again after the seconds in Retry-After."
    return Limits(
        RateLimit(per_address, f"This address has sent too many requests. {retry}"),
        RateLimit(per_key, f"This key has opened too many calls. {retry}"),
        RateLimit(per_agent, f"Too many calls to this agent were opened. {retry}"),
        RateLimit(per_address, f"This address has sent too many webhooks without a valid signature. {retry}"),
    )
