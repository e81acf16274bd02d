"""How often something that keeps happening is reported."""

from hypothesis import given
from hypothesis import strategies as st

from controller.policy.event_budget import BURST, REFILL_SECONDS, EventBudget, EventSeries


def test_a_burst_is_reported_one_by_one_and_then_nothing() -> None:
    budget = EventBudget(0.0)
    assert [budget.record(0.0) for _ in range(BURST)] == [EventSeries(1, 0.0)] * BURST
    assert [budget.record(1.0) for _ in range(100)] == [None] * 100


def test_what_was_kept_back_is_reported_with_the_next() -> None:
    budget = EventBudget(0.0)
    for _ in range(BURST):
        budget.record(0.0)
    assert [budget.record(at) for at in (100.0, 200.0)] == [None, None]
    assert budget.record(REFILL_SECONDS) == EventSeries(3, 200.0)
    assert budget.record(REFILL_SECONDS) is None
    assert budget.record(10 * REFILL_SECONDS) == EventSeries(2, 9 * REFILL_SECONDS)


def test_after_a_long_quiet_there_is_a_burst_again_and_no_more() -> None:
    budget = EventBudget(0.0)
    reported = [budget.record(1e6) for _ in range(2 * BURST)]
    assert reported == [EventSeries(1, 0.0)] * BURST + [None] * BURST


@given(st.lists(st.floats(0, 1000), max_size=200))
def test_every_occurrence_is_reported_once_or_kept_for_later(pauses: list[float]) -> None:
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
