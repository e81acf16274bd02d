"""The load a worker reports, and the slots it counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.slots import Slots, load

LIVEKIT_REFUSES_AT = 0.7


@given(slots=st.integers(1, 100), calls=st.integers(0, 120))
def test_livekit_offers_jobs_exactly_while_a_slot_is_free(slots: int, calls: int) -> None:
    reported = load(calls, slots)
    assert (reported < LIVEKIT_REFUSES_AT) == (calls < slots)
    assert 0.0 <= reported <= 1.0


@given(slots=st.integers(2, 100))
def test_load_rises_with_every_call(slots: int) -> None:
    loads = [load(calls, slots) for calls in range(slots + 1)]
    assert loads == sorted(set(loads))


@pytest.mark.parametrize(
    ("starting", "running", "calls"),
    [
        ([], [], 0),
        (["a"], [], 1),
        ([], ["a"], 1),
        (["a"], ["a"], 1),
        (["a", "b"], ["b", "c"], 3),
    ],
    ids=["none", "accepted", "running", "accepted and already running is one", "both kinds"],
)
def test_calls_are_counted_once(starting: list[str], running: list[str], calls: int) -> None:
    slots = Slots(4)
    for job in starting:
        slots.reserve(job)
    assert slots.calls(running) == calls


def test_a_released_slot_is_free_and_releasing_twice_is_harmless() -> None:
    slots = Slots(1)
    slots.reserve("a")
    slots.release("a")
    slots.release("a")
    assert slots.calls([]) == 0
