"""How often a recurring reason is reported as an Event."""

from hypothesis import given
from hypothesis import strategies as st

from controller.policy.event_budget import BURST, REFILL_SECONDS, EventBudget, EventSeries


def test_burst_is_reported_one_by_one_and_then_suppressed() -> None:
    budget = EventBudget(0.0)
    assert [budget.record(0.0) for _ in range(BURST)] == [EventSeries(1, 0.0)] * BURST
    assert [budget.record(1.0) for _ in range(100)] == [None] * 100


def test_suppressed_occurrences_are_counted_in_the_next_event() -> None:
    budget = EventBudget(0.0)
    for _ in range(BURST):
        budget.record(0.0)
    assert [budget.record(at) for at in (100.0, 200.0)] == [None, None]
    assert budget.record(REFILL_SECONDS) == EventSeries(3, 200.0)
    assert budget.record(REFILL_SECONDS) is None
    assert budget.record(10 * REFILL_SECONDS) == EventSeries(2, 9 * REFILL_SECONDS)


def test_long_pause_refills_the_burst() -> None:
    budget = EventBudget(0.0)
    reported = [budget.record(1e6) for _ in range(2 * BURST)]
    assert reported == [EventSeries(1, 0.0)] * BURST + [None] * BURST


@given(st.lists(st.floats(0, 1000), max_size=200))
def test_every_occurrence_is_reported_once_or_pending(pauses: list[float]) -> None:
    budget, now, reported = EventBudget(0.0), 0.0, 0
    events = 0
    for pause in pauses:
        now += pause
        series = budget.record(now)
        if series is not None:
            reported += series.count
            events += 1
            assert 0 <= series.seconds <= now
    assert reported + budget.unreported == len(pauses)
    assert events <= BURST + now / REFILL_SECONDS + 1e-6
