"""Another client that sets the number of workers: its number stays for a while, and a condition names it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import ConditionStatus, Reason, ScalingSpec
from controller.observation import ReplicasWriter
from controller.policy.rivals import (
    HOLD_SECONDS,
    MAX_HOLD_SECONDS,
    MEMORY_SECONDS,
    Rival,
    contested,
    replicas_contested,
    rival_of,
)
from controller.policy.scale import Decision, ScaleReason
from tests.unit.controller.builders import KEY

SCALING = ScalingSpec(min_workers=1, max_workers=5)
FIXED = ScalingSpec.model_validate({"mode": "Fixed", "workers": 1})


def writer(replicas: int = 4, time: int = 0, manager: str = "kubectl", *, scaled: bool = True) -> ReplicasWriter:
    """A write of another client; `time` distinguishes one write from the next."""
    return ReplicasWriter(manager, scaled, f"2026-01-05T00:00:{time:02}Z", replicas)


def rival(count: int = 1, at: float = 0.0, *, too_low: bool = False, **changes: Any) -> Rival:
    return Rival(replace(writer(), **changes), count, at, too_low)


def decision(workers: int = 1, reason: ScaleReason = ScaleReason.STEADY, requeue: float | None = None) -> Decision:
    return Decision(workers, reason, workers, (), requeue)


def result(
    decided: Decision, other: Rival | None, current: int | None, *, waiting: bool = False, now: float = 1.0
) -> Decision:
    return contested(decided, other, SCALING, current, waiting=waiting, now=now)


@pytest.mark.parametrize(
    ("before", "seen", "wanted", "count"),
    [
        pytest.param(None, None, 1, None, id="the controller alone"),
        pytest.param(None, writer(4), 1, 1, id="first write"),
        pytest.param(None, writer(4), 4, 0, id="the number that is needed"),
        pytest.param(rival(1), writer(4), 1, 1, id="the same write"),
        pytest.param(rival(1), None, 1, 1, id="the controller set its own number"),
        pytest.param(rival(1), writer(4, time=9), 1, 2, id="second write"),
        pytest.param(rival(1), writer(2, time=9), 2, 1, id="second write, of the number that is needed"),
        pytest.param(rival(1, at=-MEMORY_SECONDS - 1), writer(4, time=9), 1, 1, id="first write after a long time"),
        pytest.param(rival(1, at=-MEMORY_SECONDS - 1), None, 1, None, id="forgotten"),
        pytest.param(rival(0), writer(4), 1, 0, id="fewer are needed later"),
    ],
)
def test_unwanted_writes_are_counted(
    before: Rival | None, seen: ReplicasWriter | None, wanted: int, count: int | None
) -> None:
    found = rival_of(before, seen, wanted, now=0.0)
    assert (None if found is None else found.count) == count


@pytest.mark.parametrize(
    ("other", "seconds"),
    [
        pytest.param(rival(0), 0, id="no conflict"),
        pytest.param(rival(1), HOLD_SECONDS, id="scaled once"),
        pytest.param(rival(1, scaled=False), 0, id="edited once"),
        pytest.param(rival(2, scaled=False), 2 * HOLD_SECONDS, id="edited twice"),
        pytest.param(rival(3), 4 * HOLD_SECONDS, id="scaled three times"),
        pytest.param(rival(999), MAX_HOLD_SECONDS, id="scaled all day"),
        pytest.param(rival(2, too_low=True), 0, id="too low twice"),
        pytest.param(rival(3, too_low=True), 4 * HOLD_SECONDS, id="too low three times"),
    ],
)
def test_number_stays_longer_with_each_write(other: Rival, seconds: float) -> None:
    assert other.holds_for(0.0) == seconds
    assert MAX_HOLD_SECONDS < MEMORY_SECONDS, "the series is remembered for as long as its number stays"


@pytest.mark.parametrize(
    ("decided", "other", "current", "waiting", "workers"),
    [
        pytest.param(decision(1), rival(), 4, False, 4, id="more than needed stay"),
        pytest.param(decision(1), rival(replicas=9), 9, False, 5, id="within maxWorkers"),
        pytest.param(decision(5), rival(), 4, False, 5, id="more are needed"),
        pytest.param(decision(3), rival(3, too_low=True, replicas=1), 1, False, 1, id="fewer than needed stay"),
        pytest.param(decision(3), rival(3, too_low=True, replicas=1), 1, True, 3, id="a call waits"),
        pytest.param(decision(3), rival(2, too_low=True, replicas=1), 1, False, 3, id="corrected the first times"),
        pytest.param(decision(3), rival(3, too_low=True, replicas=1), 2, False, 3, id="another low number"),
        pytest.param(decision(1), rival(at=-HOLD_SECONDS), 4, False, 1, id="the time is over"),
        pytest.param(decision(0, ScaleReason.STOPPED), rival(), 4, False, 0, id="no worker may run"),
        pytest.param(decision(1), rival(), None, False, 1, id="no Deployment"),
        pytest.param(decision(1), None, 4, False, 1, id="nobody else"),
    ],
)
def test_other_number_stays_for_a_while(
    decided: Decision, other: Rival | None, current: int | None, waiting: bool, workers: int
) -> None:
    found = result(decided, other, current, waiting=waiting)
    assert found.workers == workers
    assert (found == decided) or found.reason is ScaleReason.CONTESTED


@pytest.mark.parametrize(("requeue", "expected"), [(None, HOLD_SECONDS - 1), (7.0, 7.0), (900.0, HOLD_SECONDS - 1)])
def test_decision_is_due_when_the_time_is_over(requeue: float | None, expected: float) -> None:
    assert result(decision(1, requeue=requeue), rival(), 4).requeue_after == expected


def test_agent_in_mode_fixed_keeps_the_other_number_too() -> None:
    found = contested(decision(1), rival(), FIXED, 4, waiting=False, now=1.0)
    assert found.workers == 4


@pytest.mark.parametrize(
    ("other", "scaling", "parts"),
    [
        pytest.param(
            rival(),
            SCALING,
            [
                "Field manager 'kubectl' sets",
                "ava-worker to 4. This number stays for 5 minutes",
                "spec.scaling.minWorkers",
            ],
            id="kubectl",
        ),
        pytest.param(
            rival(3, manager="kube-controller-manager"),
            SCALING,
            [
                "A HorizontalPodAutoscaler (field manager",
                "3 times so far",
                "20 minutes",
                "delete it: kubectl get hpa -n shop",
            ],
            id="an autoscaler",
        ),
        pytest.param(rival(), FIXED, [". Use kubectl scale ava ava --replicas N -n shop."], id="mode Fixed"),
        pytest.param(
            rival(2, too_low=True), SCALING, ["2 times so far. The controller corrected it. Set"], id="corrected"
        ),
        pytest.param(rival(manager="m" * 9000), SCALING, ["mmm"], id="a long name"),
    ],
)
def test_other_client_is_named_with_the_cure(other: Rival, scaling: ScalingSpec, parts: list[str]) -> None:
    verdict = replicas_contested(other, scaling, KEY, now=1.0)
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.TRUE, Reason.REPLICAS_CONTESTED)
    assert all(part in verdict.message for part in parts), verdict.message
    assert len(verdict.message) < 1000


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(None, id="nobody else"),
        pytest.param(rival(0), id="no conflict"),
        pytest.param(rival(1, scaled=False), id="one edit, corrected"),
        pytest.param(rival(1, at=-HOLD_SECONDS), id="the time is over"),
    ],
)
def test_single_edit_is_no_contest(other: Rival | None) -> None:
    assert replicas_contested(other, SCALING, KEY, now=1.0) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), min_size=1, max_size=60), st.booleans())
def test_pods_do_not_come_and_go_for_any_series(writes: list[tuple[int, int]], scaled: bool) -> None:
    now, replicas, rival_now = 0.0, 1, None
    corrections = 0
    for number, (asked, wait) in enumerate(writes):
        now += wait
        rival_now = rival_of(rival_now, writer(asked, number % 60, f"m{number}", scaled=scaled), 1, now)
        decided = contested(decision(1), rival_now, SCALING, asked, waiting=False, now=now)
        replicas = decided.workers
        assert min(1, asked) <= replicas <= SCALING.max_workers
        corrections += replicas < min(asked, SCALING.max_workers)
    assert corrections <= 1, "its number within maxWorkers is corrected once at most"
