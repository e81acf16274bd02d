"""Limits the Events about a recurring reason.

The limit is client-go's for one source and one object (tools/record/events_cache.go: defaultSpamBurst,
defaultSpamQPS). Here each reason has its own budget, so that no reason hides another. Pure.
"""

from dataclasses import dataclass

BURST = 25
"""Events with the same reason about one AvatarAgent that are posted one by one."""
REFILL_SECONDS = 300.0
"""After the burst, one Event is posted per this many seconds."""


@dataclass(frozen=True, slots=True)
class EventSeries:
    """The occurrences that one Event reports."""

    count: int
    seconds: float
    """From the first of them until now."""


@dataclass(slots=True)
class EventBudget:
    """A token bucket for the Events of one reason. Times are seconds of one monotonic clock."""

    refilled: float
    """When tokens were last added."""
    tokens: float = BURST
    unreported: int = 0
    """Occurrences since the last Event."""
    first_unreported: float = 0.0
    """When the first of those happened."""

    def record(self, now: float) -> EventSeries | None:
        """Count an occurrence and return the series to post now; None: the budget is spent, post nothing."""
        self.tokens = min(BURST, self.tokens + (now - self.refilled) / REFILL_SECONDS)
        self.refilled = now
        if not self.unreported:
            self.first_unreported = now
        self.unreported += 1
        if self.tokens < 1:
            return None
        series = EventSeries(self.unreported, now - self.first_unreported)
        self.tokens, self.unreported = self.tokens - 1, 0
        return series
