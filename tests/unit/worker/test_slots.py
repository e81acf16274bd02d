"""The load a worker reports, and the slots it counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec.scaling import Placement
from worker.server.slots import Slots, load

LIVEKIT_THRESHOLD = 0.7


@given(slots=st.integers(1, 100), calls=st.integers(0, 120), placement=st.sampled_from(Placement))
def test_livekit_offers_jobs_only_while_a_slot_is_free(slots: int, calls: int, placement: Placement) -> None:
    reported = load(calls, slots, placement)
    assert (reported < LIVEKIT_THRESHOLD) == (calls < slots)
    assert 0.0 <= reported <= 1.0


@given(slots=st.integers(2, 100))
def test_spread_load_rises_with_every_call(slots: int) -> None:
    loads = [load(calls, slots, Placement.SPREAD) for calls in range(slots + 1)]
    assert loads == sorted(set(loads))


@given(slots=st.integers(2, 100))
def test_packed_load_falls_with_every_call(slots: int) -> None:
    loads = [load(calls, slots, Placement.PACKED) for calls in range(slots)]
    assert loads == sorted(set(loads), reverse=True)


def test_packed_busy_worker_is_preferred_to_idle_ones() -> None:
    """LiveKit chooses at random, weighted by 1 - load."""
    busy, idle = (1 - load(calls, 4, Placement.PACKED) for calls in (1, 0))
    assert busy / (busy + idle) > 0.7
    assert busy > 2.7 * idle


@pytest.mark.parametrize(
    ("starting", "running", "calls"),
    [
        ([], [], 0),
        (["a"], [], 1),
        ([], ["a"], 1),
        (["a"], ["a"], 1),
        (["a", "b"], ["b", "c"], 3),
    ],
    ids=["none", "accepted", "running", "accepted and running count once", "both"],
)
def test_calls_are_counted_once(starting: list[str], running: list[str], calls: int) -> None:
    slots = Slots(4)
    for job in starting:
        slots.reserve(job)
    assert len(slots.held(running)) == calls


def test_slot_can_be_released_twice() -> None:
    slots = Slots(1)
    slots.reserve("a")
    slots.release("a")
    slots.release("a")
    assert slots.held([]) == set()
