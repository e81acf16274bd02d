"""A bound on requests: so many a second on average, and some more at once after a quiet time. Pure."""


class TokenBucket:
    """Tokens that come at a constant rate, up to a maximum. Each request takes one."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at = 0.0

    def fill(self, now: float) -> None:
        """Add the tokens that have come since the last time. ``now``: Unix seconds."""
        self._tokens = min(self._burst, self._tokens + self._per_second * (now - self._filled_at))
        self._filled_at = now

    def has(self, tokens: float) -> bool:
        """Return whether so many tokens are there."""
        return self._tokens >= tokens

    def take(self, tokens: float) -> None:
        """Take tokens. Requests that were made already may take more than there are."""
        self._tokens -= tokens
