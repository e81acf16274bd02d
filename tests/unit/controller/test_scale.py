"""How many workers run."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import ConditionStatus, Reason, ScalingMode, ScalingSpec
from controller.policy.scale import Decision, History, Load, Sample, ScaleReason, decide, needed, scaling_limited

IDLE = Load(calls=0, pending=0, busy=0, busy_unready=False)


def load(calls: int = 0, pending: int = 0, busy: int = 0, busy_unready: bool = False, **changes: Any) -> Load:
    return Load(calls, pending, busy, busy_unready, **changes)


def lost(number: int, unready: int, **changes: Any) -> Load:
    """Workers that took calls. This number is lost, and this number of their pods is unready."""
    return load(lost=number, lost_ready=number - unready, failed=unready, **changes)


def scaling(**changes: Any) -> ScalingSpec:
    known = {"min_workers": 1, "max_workers": 10, "free_slots": 0, "scale_down_delay_seconds": 60}
    return ScalingSpec.model_validate({**known, **changes})


def fixed(workers: int) -> ScalingSpec:
    return scaling(mode=ScalingMode.FIXED, workers=workers)


def decided(
    chosen: ScalingSpec, current_load: Load, current: int | None, history: History = (), now: float = 100.0
) -> Decision:
    return decide(chosen, 1, current_load, stopped=False, current=current, history=history, now=now)


@pytest.mark.parametrize(
    ("current_load", "free_slots", "per_worker", "workers"),
    [
        pytest.param(IDLE, 0, 4, 0, id="no calls and no free slots need no worker"),
        pytest.param(IDLE, 4, 4, 1, id="free slots of one worker"),
        pytest.param(IDLE, 5, 4, 2, id="one free slot more than a worker has"),
        pytest.param(load(calls=3), 1, 4, 1, id="the last slot is the free slot"),
        pytest.param(load(calls=4), 1, 4, 2, id="a full worker has no free slot"),
        pytest.param(load(pending=3), 0, 1, 3, id="every waiting call gets a slot"),
        pytest.param(load(calls=2, pending=3), 4, 3, 3, id="calls, waiting calls and free slots add up"),
    ],
)
def test_needed_slots_are_rounded_up_to_workers(
    current_load: Load, free_slots: int, per_worker: int, workers: int
) -> None:
    assert needed(scaling(free_slots=free_slots), per_worker, current_load) == workers


@pytest.mark.parametrize(
    ("current_load", "current", "history", "workers", "reason", "limited"),
    [
        pytest.param(IDLE, None, (), 1, ScaleReason.MORE_NEEDED, False, id="a new agent"),
        pytest.param(load(pending=3), 1, (), 3, ScaleReason.MORE_NEEDED, False, id="waiting calls add workers at once"),
        pytest.param(load(pending=99), 1, (), 10, ScaleReason.MORE_NEEDED, True, id="never more than maxWorkers"),
        pytest.param(
            IDLE, 3, (), 3, ScaleReason.DELAY_RUNNING, False, id="the delay restarts after a controller restart"
        ),
        pytest.param(
            IDLE,
            3,
            (Sample(41, 3), Sample(60, 1)),
            3,
            ScaleReason.DELAY_RUNNING,
            False,
            id="within the delay nothing is removed",
        ),
        pytest.param(
            IDLE,
            3,
            (Sample(40, 3), Sample(60, 1)),
            1,
            ScaleReason.FEWER_NEEDED,
            False,
            id="fewer were enough for the whole delay",
        ),
        pytest.param(
            IDLE,
            3,
            (Sample(30, 3), Sample(70, 2)),
            2,
            ScaleReason.FEWER_NEEDED,
            False,
            id="down to the maximum within the delay",
        ),
        pytest.param(
            load(calls=2, busy=2),
            3,
            (Sample(30, 3), Sample(60, 2)),
            2,
            ScaleReason.FEWER_NEEDED,
            False,
            id="the idle worker is removed",
        ),
        pytest.param(
            load(calls=2, busy=2),
            2,
            (Sample(30, 2),),
            2,
            ScaleReason.STEADY,
            False,
            id="busy one-slot workers stay",
        ),
        pytest.param(
            load(calls=1, busy=1, busy_unready=True),
            3,
            (Sample(30, 3), Sample(60, 1)),
            3,
            ScaleReason.WORKERS_BUSY,
            False,
            id="nothing is removed while a busy pod is unready",
        ),
        pytest.param(IDLE, 1, (Sample(99, 1),), 1, ScaleReason.STEADY, False, id="steady"),
        pytest.param(IDLE, 0, (), 1, ScaleReason.MORE_NEEDED, False, id="never fewer than minWorkers"),
        pytest.param(
            load(calls=12, busy=12),
            12,
            (Sample(99, 12),),
            10,
            ScaleReason.FEWER_NEEDED,
            True,
            id="a lowered maxWorkers drains busy workers",
        ),
    ],
)
def test_scale_up_is_immediate_and_scale_down_is_delayed(
    current_load: Load, current: int | None, history: History, workers: int, reason: ScaleReason, limited: bool
) -> None:
    decision = decided(scaling(), current_load, current, history)
    assert (decision.workers, decision.reason, decision.limited) == (workers, reason, limited)


@pytest.mark.parametrize(
    ("current_load", "current", "workers", "reason"),
    [
        pytest.param(lost(1, 1), 1, 2, ScaleReason.WORKERS_LOST, id="the only worker is lost and unready"),
        pytest.param(lost(1, 0, pending=1), 1, 2, ScaleReason.WORKERS_LOST, id="it is ready, and a call waits"),
        pytest.param(lost(1, 0), 1, 1, ScaleReason.STEADY, id="it is ready, and no call waits"),
        pytest.param(lost(1, 1, pending=1), 2, 2, ScaleReason.STEADY, id="its replacement starts"),
        pytest.param(load(lost=1), 1, 1, ScaleReason.STEADY, id="the only pod does not start"),
        pytest.param(load(lost=1, pending=1), 1, 2, ScaleReason.WORKERS_LOST, id="it does not start, and a call waits"),
        pytest.param(lost(1, 1, serving=1), 2, 2, ScaleReason.DELAY_RUNNING, id="its replacement serves"),
        pytest.param(lost(2, 2, pending=2), 2, 4, ScaleReason.WORKERS_LOST, id="two are lost and two calls wait"),
        pytest.param(lost(1, 1, pending=3), 1, 4, ScaleReason.MORE_NEEDED, id="three calls wait"),
        pytest.param(lost(9, 9, pending=4), 9, 10, ScaleReason.WORKERS_LOST, id="never more than maxWorkers"),
        pytest.param(lost(3, 3, serving=1, pending=1), 4, 4, ScaleReason.DELAY_RUNNING, id="another one serves"),
    ],
)
def test_lost_workers_are_replaced(current_load: Load, current: int, workers: int, reason: ScaleReason) -> None:
    decision = decided(scaling(), current_load, current)
    assert (decision.workers, decision.reason) == (workers, reason)


def test_lost_worker_with_one_call_waiting_and_free_slots() -> None:
    decision = decide(
        scaling(max_workers=5, free_slots=2),
        4,
        lost(1, 0, pending=1),
        stopped=False,
        current=1,
        history=(),
        now=100.0,
    )
    assert (decision.workers, decision.reason) == (2, ScaleReason.WORKERS_LOST)


@pytest.mark.parametrize(
    ("current_load", "workers"),
    [
        pytest.param(lost(1, 1, serving=1), 1, id="unready, so Kubernetes removes it first"),
        pytest.param(lost(1, 0, serving=1), 2, id="ready, so Kubernetes could remove the other one"),
        pytest.param(load(lost=1, serving=1), 1, id="a pod that did not start"),
        pytest.param(lost(1, 1, serving=0), 2, id="nothing serves yet"),
    ],
)
def test_lost_worker_is_removed_after_the_delay(current_load: Load, workers: int) -> None:
    decision = decided(scaling(), current_load, 2, (Sample(30, 2), Sample(39, 1)))
    assert decision.workers == workers


def test_worker_that_comes_back_leaves_one_too_many() -> None:
    first = decided(scaling(), lost(1, 1, pending=1), 1, now=0.0)
    back = decided(scaling(), load(serving=2), 2, first.history, now=10.0)
    assert (back.workers, back.reason, back.requeue_after) == (2, ScaleReason.DELAY_RUNNING, 60.0)


def test_decision_is_due_when_the_next_worker_counts_as_lost() -> None:
    assert decided(scaling(), load(changes_in=12.0), 1).requeue_after == 12.0
    history = (Sample(60, 3), Sample(99, 1))
    assert decided(scaling(), load(changes_in=12.0), 3, history).requeue_after == 12.0
    assert decided(scaling(), load(changes_in=90.0), 3, history).requeue_after == 20.0


def test_calls_spread_over_workers_keep_all_of_them() -> None:
    def two_busy(current: int, history: History, now: float) -> Decision:
        current_load = load(calls=2, busy=2)
        return decide(scaling(), 4, current_load, stopped=False, current=current, history=history, now=now)

    decision = two_busy(3, (Sample(0, 3), Sample(0, 1)), 100.0)
    assert (decision.workers, decision.reason) == (2, ScaleReason.FEWER_NEEDED)
    again = two_busy(2, decision.history, 200.0)
    assert (again.workers, again.reason, again.requeue_after) == (2, ScaleReason.WORKERS_BUSY, None)


def test_last_need_counts_until_the_next_decision() -> None:
    first = decided(scaling(), load(calls=3, busy=3), 3, now=0.0)
    second = decided(scaling(), IDLE, 3, first.history, now=1000.0)
    assert (second.workers, second.reason, second.requeue_after) == (3, ScaleReason.DELAY_RUNNING, 60.0)
    third = decided(scaling(), IDLE, 3, second.history, now=1059.0)
    assert (third.workers, third.requeue_after) == (3, 1.0)
    fourth = decided(scaling(), IDLE, 3, third.history, now=1060.0)
    assert (fourth.workers, fourth.reason, fourth.requeue_after) == (1, ScaleReason.FEWER_NEEDED, None)


def test_stepwise_fall_of_demand_removes_workers_stepwise() -> None:
    history: History = ()
    current: int | None = None
    workers, waits = [], []
    for now, calls in ((0.0, 3), (20.0, 2), (50.0, 1), (80.0, 1), (110.0, 1)):
        decision = decided(scaling(), load(calls=calls), current, history, now)
        history, current = decision.history, decision.workers
        workers.append(decision.workers)
        waits.append(decision.requeue_after)
    assert workers == [3, 3, 3, 2, 1]
    assert waits == [None, 60.0, 30.0, 30.0, None], "when the highest need of before is old enough"


@pytest.mark.parametrize("current", [None, 0, 3, 9])
@pytest.mark.parametrize("current_load", [IDLE, load(pending=50), load(calls=9, busy=9, busy_unready=True)])
def test_fixed_number_ignores_calls(current: int | None, current_load: Load) -> None:
    decision = decided(fixed(3), current_load, current, (Sample(99, 9),))
    assert (decision.workers, decision.limited, decision.requeue_after) == (3, False, None)
    expected = {0: ScaleReason.MORE_NEEDED, 3: ScaleReason.STEADY, 9: ScaleReason.FEWER_NEEDED}[current or 0]
    assert decision.reason is expected
    assert decision.history == (), "back in mode Calls the delay starts anew"


@pytest.mark.parametrize("chosen", [scaling(), fixed(3)])
def test_stopped_agent_has_no_workers(chosen: ScalingSpec) -> None:
    current_load = load(calls=3, pending=50, busy=3, busy_unready=True)
    decision = decide(chosen, 1, current_load, stopped=True, current=5, history=(Sample(99, 5),), now=100.0)
    assert (decision.workers, decision.stopped, decision.limited) == (0, True, False)
    assert (decision.history, decision.requeue_after) == ((), None)


@pytest.mark.parametrize(
    ("chosen", "pending", "status", "reason", "text"),
    [
        pytest.param(
            scaling(max_workers=2),
            5,
            ConditionStatus.TRUE,
            Reason.MAX_WORKERS_REACHED,
            "need 5 workers; spec.scaling.maxWorkers allows 2. Raise maxWorkers",
            id="limited, with the fields to set",
        ),
        pytest.param(
            scaling(max_workers=5),
            5,
            ConditionStatus.FALSE,
            Reason.WITHIN_LIMITS,
            "no more than 5 workers (spec.scaling.maxWorkers)",
            id="within the limit",
        ),
        pytest.param(
            fixed(2), 5, ConditionStatus.FALSE, Reason.WITHIN_LIMITS, "number of workers is fixed", id="fixed"
        ),
    ],
)
def test_scaling_limited(chosen: ScalingSpec, pending: int, status: ConditionStatus, reason: Reason, text: str) -> None:
    verdict = scaling_limited(chosen, decided(chosen, load(pending=pending), 1), None)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert text in verdict.message


def test_limit_that_lost_workers_reach_names_them() -> None:
    decision = decided(scaling(max_workers=2), lost(2, 2, pending=1), 2)
    verdict = scaling_limited(scaling(max_workers=2), decision, None)
    assert (decision.workers, verdict.reason) == (2, Reason.MAX_WORKERS_REACHED)
    assert "with 2 of them, 3 workers are needed; spec.scaling.maxWorkers allows 2" in verdict.message


def test_stopped_agent_is_not_limited() -> None:
    decision = decide(scaling(max_workers=1), 1, load(pending=9), stopped=True, current=1, history=(), now=0.0)
    assert scaling_limited(scaling(max_workers=1), decision, None).status is ConditionStatus.FALSE


loads = st.builds(
    lambda lost_ready, failed, unstarted, **changes: load(
        lost=lost_ready + failed + unstarted, lost_ready=lost_ready, failed=failed, **changes
    ),
    lost_ready=st.integers(0, 3),
    failed=st.integers(0, 3),
    unstarted=st.integers(0, 3),
    calls=st.integers(0, 200),
    pending=st.integers(0, 50),
    busy=st.integers(0, 30),
    busy_unready=st.booleans(),
    serving=st.integers(0, 30),
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
def test_scaling_promises_hold_for_any_sequence(
    chosen: ScalingSpec, per_worker: int, steps: list[tuple[Load, float]]
) -> None:
    now, current = 0.0, None
    history: History = ()
    needs: list[tuple[float, int]] = []
    for current_load, passed in steps:
        now += passed
        able = max(chosen.min_workers, min(needed(chosen, per_worker, current_load), chosen.max_workers))
        replaced = current_load.lost if current_load.pending else current_load.failed
        need = min(able + (replaced if current_load.serving < able else 0), chosen.max_workers)
        needs.append((now, need))
        before: int | None = current
        decision = decide(chosen, per_worker, current_load, stopped=False, current=before, history=history, now=now)
        workers = decision.workers
        assert chosen.min_workers <= workers <= chosen.max_workers
        assert workers >= need, "demand is met at once"
        assert len(decision.history) <= chosen.max_workers + 1
        if before is not None and workers < before:
            until = ((end, least) for (_, least), (end, _) in pairwise(needs))
            lately = [least for end, least in until if now - end < chosen.scale_down_delay_seconds]
            assert workers >= max(lately, default=0), "fewer have sufficed for the whole delay"
            assert workers >= min(current_load.busy, before), "no busy worker is taken"
            assert not current_load.busy_unready
            assert workers >= min(able + current_load.lost_ready, before), "no serving worker goes for a lost one"
        if before is not None and workers > before:
            assert workers == need, "never more than needed"
        current, history = workers, decision.history


@given(scalings, st.integers(1, 8), loads)
def test_repeated_load_changes_nothing(chosen: ScalingSpec, per_worker: int, current_load: Load) -> None:
    first = decide(chosen, per_worker, current_load, stopped=False, current=None, history=(), now=0.0)
    second = decide(
        chosen, per_worker, current_load, stopped=False, current=first.workers, history=first.history, now=1.0
    )
    assert second.workers == first.workers
    assert second.reason in (ScaleReason.STEADY, ScaleReason.WORKERS_BUSY)
    assert second.requeue_after is None


@given(scalings, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 90)), max_size=20), st.integers(0, 30))
def test_requeues_lead_to_the_needed_number(chosen: ScalingSpec, steps: list[tuple[int, int]], last: int) -> None:
    decision, now = decided(chosen, IDLE, None, now=0.0), 0.0
    for calls, passed in (*steps, (last, 0)):
        now += passed
        decision = decided(chosen, load(calls=calls), decision.workers, decision.history, now)
    for _ in range(chosen.max_workers + 1):
        if decision.requeue_after is not None:
            assert 0 < decision.requeue_after <= chosen.scale_down_delay_seconds
            now += decision.requeue_after
            decision = decided(chosen, load(calls=last), decision.workers, decision.history, now)
    need = max(chosen.min_workers, min(needed(chosen, 1, load(calls=last)), chosen.max_workers))
    assert (decision.workers, decision.requeue_after) == (need, None)
