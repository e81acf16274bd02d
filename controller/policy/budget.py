"""How many events are told of what keeps changing: as many as client-go lets a source tell about one object, here for
each reason, so that none hides another (tools/record/events_cache.go: defaultSpamBurst, defaultSpamQPS). Pure.
"""

from dataclasses import dataclass

BURST = 25
"""Events of a reason about one AvatarAgent that are told one by one."""
REFILL_SECONDS = 300.0
"""Then one in so long."""


@dataclass(frozen=True, slots=True)
class Occurrences:
    """What one event tells of."""

    times: int
    seconds: float
    """Since the first of them."""


@dataclass(slots=True)
class Budget:
    """What may still be told of one reason. Times are seconds of one monotonic clock."""

    asked: float
    """When it was last."""
    tokens: float = BURST
    times: int = 0
    """How often it happened since it was last told,"""
    first: float = 0.0
    """and when for the first time."""

    def happened(self, now: float) -> Occurrences | None:
        """Once more: what to tell of it; None: nothing now."""
        self.tokens = min(BURST, self.tokens + (now - self.asked) / REFILL_SECONDS)
        self.asked = now
        if not self.times:
            self.first = now
        self.times += 1
        if self.tokens < 1:
            return None
        told = Occurrences(self.times, now - self.first)
        self.tokens, self.times = self.tokens - 1, 0
        return told
