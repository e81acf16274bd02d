"""How often something that keeps happening is told."""

from hypothesis import given
from hypothesis import strategies as st

from controller.policy.budget import BURST, REFILL_SECONDS, Budget, Occurrences


def test_a_burst_is_told_one_by_one_and_then_nothing() -> None:
    budget = Budget(0.0)
    assert [budget.happened(0.0) for _ in range(BURST)] == [Occurrences(1, 0.0)] * BURST
    assert [budget.happened(1.0) for _ in range(100)] == [None] * 100


def test_what_was_kept_back_is_told_with_the_next() -> None:
    budget = Budget(0.0)
    for _ in range(BURST):
        budget.happened(0.0)
    assert [budget.happened(at) for at in (100.0, 200.0)] == [None, None]
    assert budget.happened(REFILL_SECONDS) == Occurrences(3, 200.0)
    assert budget.happened(REFILL_SECONDS) is None
    assert budget.happened(10 * REFILL_SECONDS) == Occurrences(2, 9 * REFILL_SECONDS)


def test_after_a_long_quiet_there_is_a_burst_again_and_no_more() -> None:
    budget = Budget(0.0)
    told = [budget.happened(1e6) for _ in range(2 * BURST)]
    assert told == [Occurrences(1, 0.0)] * BURST + [None] * BURST


@given(st.lists(st.floats(0, 1000), max_size=200))
def test_every_occurrence_is_told_once_or_kept_for_later(pauses: list[float]) -> None:
    budget, now, told = Budget(0.0), 0.0, 0
    events = 0
    for pause in pauses:
        now += pause
        occurrences = budget.happened(now)
        if occurrences is not None:
            told += occurrences.times
            events += 1
            assert 0 <= occurrences.seconds <= now
    assert told + budget.times == len(pauses)
    assert events <= BURST + now / REFILL_SECONDS + 1e-6
