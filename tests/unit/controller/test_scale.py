"""How many workers run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import ScalingSpec
from controller.policy.scale import Decision, History, Load, Sample, ScaleReason, decide, needed

IDLE = Load(calls=0, pending=0, busy=0, busy_unready=False)


def load(calls: int = 0, pending: int = 0, busy: int = 0, busy_unready: bool = False) -> Load:
    return Load(calls, pending, busy, busy_unready)


def scaling(**changes: int) -> ScalingSpec:
    known = {"min_workers": 1, "max_workers": 10, "free_slots": 0, "scale_down_delay_seconds": 60}
    return ScalingSpec.model_validate({**known, **changes})


@pytest.mark.parametrize(
    ("carried", "free_slots", "per_worker", "workers"),
    [
        pytest.param(IDLE, 0, 4, 0, id="nothing to carry and nothing to keep warm needs no worker"),
        pytest.param(IDLE, 4, 4, 1, id="free slots that fill one worker need one"),
        pytest.param(IDLE, 5, 4, 2, id="one free slot more needs another"),
        pytest.param(load(calls=3), 1, 4, 1, id="a worker's last slot may be the free one"),
        pytest.param(load(calls=4), 1, 4, 2, id="a full worker has no free slot to offer"),
        pytest.param(load(pending=3), 0, 1, 3, id="every waiting call gets a slot"),
        pytest.param(load(calls=2, pending=3), 4, 3, 3, id="calls, waiting calls and free slots add up"),
    ],
)
def test_needed_slots_are_rounded_up_to_workers(carried: Load, free_slots: int, per_worker: int, workers: int) -> None:
    assert needed(scaling(free_slots=free_slots), per_worker, carried) == workers


@pytest.mark.parametrize(
    ("carried", "current", "history", "workers", "reason", "limited"),
    [
        pytest.param(IDLE, None, (), 1, ScaleReason.MORE_NEEDED, False, id="a new agent starts with what it needs"),
        pytest.param(load(pending=3), 1, (), 3, ScaleReason.MORE_NEEDED, False, id="more are wanted at once"),
        pytest.param(load(pending=99), 1, (), 10, ScaleReason.MORE_NEEDED, True, id="never more than maxWorkers"),
        pytest.param(IDLE, 3, (), 3, ScaleReason.DELAY_RUNNING, False, id="after a restart the delay starts anew"),
        pytest.param(
            IDLE, 3, (Sample(41, 3),), 3, ScaleReason.DELAY_RUNNING, False, id="three were needed 59 s ago: three stay"
        ),
        pytest.param(
            IDLE, 3, (Sample(40, 3),), 1, ScaleReason.FEWER_NEEDED, False, id="fewer sufficed for the whole delay"
        ),
        pytest.param(
            IDLE,
            3,
            (Sample(30, 3), Sample(70, 2)),
            2,
            ScaleReason.FEWER_NEEDED,
            False,
            id="down to the most that was needed within the delay",
        ),
        pytest.param(
            load(calls=2, busy=2),
            3,
            (Sample(30, 3),),
            2,
            ScaleReason.FEWER_NEEDED,
            False,
            id="two workers with a call each: the third leaves",
        ),
        pytest.param(
            load(calls=2, busy=2),
            2,
            (Sample(30, 2),),
            2,
            ScaleReason.STEADY,
            False,
            id="one-slot workers with calls are needed as they are",
        ),
        pytest.param(
            load(calls=1, busy=1, busy_unready=True),
            3,
            (Sample(30, 3),),
            3,
            ScaleReason.WORKERS_BUSY,
            False,
            id="a busy pod that is not ready would be taken first, so none is taken",
        ),
        pytest.param(IDLE, 1, (Sample(99, 1),), 1, ScaleReason.STEADY, False, id="one is enough and one runs"),
        pytest.param(IDLE, 0, (), 1, ScaleReason.MORE_NEEDED, False, id="never fewer than minWorkers"),
        pytest.param(
            load(calls=12, busy=12),
            12,
            (Sample(99, 12),),
            10,
            ScaleReason.FEWER_NEEDED,
            True,
            id="a lowered maxWorkers holds even over busy workers: they drain",
        ),
    ],
)
def test_up_at_once_and_down_with_patience(
    carried: Load, current: int | None, history: History, workers: int, reason: ScaleReason, limited: bool
) -> None:
    decision = decide(scaling(), 1, carried, current=current, history=history, now=100.0)
    assert (decision.workers, decision.reason, decision.limited) == (workers, reason, limited)


def test_calls_spread_over_roomy_workers_keep_all_of_them() -> None:
    decision = decide(scaling(), 4, load(calls=2, busy=2), current=3, history=(Sample(0, 3),), now=100.0)
    assert (decision.workers, decision.reason) == (2, ScaleReason.FEWER_NEEDED)
    again = decide(scaling(), 4, load(calls=2, busy=2), current=2, history=decision.history, now=200.0)
    assert (again.workers, again.reason) == (2, ScaleReason.WORKERS_BUSY)


loads = st.builds(
    load, calls=st.integers(0, 200), pending=st.integers(0, 50), busy=st.integers(0, 30), busy_unready=st.booleans()
)
scalings = st.builds(
    lambda least, more, free, delay: scaling(
        min_workers=least, max_workers=max(1, least + more), free_slots=free, scale_down_delay_seconds=delay
    ),
    st.integers(0, 10),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 120),
)


@given(scalings, st.integers(1, 8), st.lists(st.tuples(loads, st.floats(0, 30)), min_size=1, max_size=40))
def test_whatever_happens_the_promises_hold(
    chosen: ScalingSpec, per_worker: int, happenings: list[tuple[Load, float]]
) -> None:
    now, current = 0.0, None
    history: History = ()
    needs: list[tuple[float, int]] = []
    for carried, passed in happenings:
        now += passed
        need = max(chosen.min_workers, min(needed(chosen, per_worker, carried), chosen.max_workers))
        needs.append((now, need))
        before: int | None = current
        decision: Decision = decide(chosen, per_worker, carried, current=before, history=history, now=now)
        workers = decision.workers
        assert chosen.min_workers <= workers <= chosen.max_workers
        assert workers >= need, "demand is met at once"
        assert len(decision.history) <= chosen.max_workers + 1
        if before is not None and workers < before:
            lately = [least for at, least in needs if now - at < chosen.scale_down_delay_seconds]
            assert workers >= max(lately, default=0), "fewer have sufficed for the whole delay"
            assert workers >= min(carried.busy, before), "no busy worker is taken"
            assert not carried.busy_unready
        if before is not None and workers > before:
            assert workers == need, "never more than needed"
        current, history = workers, decision.history


@given(scalings, st.integers(1, 8), loads)
def test_the_same_load_again_changes_nothing(chosen: ScalingSpec, per_worker: int, carried: Load) -> None:
    first = decide(chosen, per_worker, carried, current=None, history=(), now=0.0)
    second = decide(chosen, per_worker, carried, current=first.workers, history=first.history, now=1.0)
    assert second.workers == first.workers
    assert second.reason in (ScaleReason.STEADY, ScaleReason.WORKERS_BUSY)
