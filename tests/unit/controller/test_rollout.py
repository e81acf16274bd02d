"""When a change is rolled out, and what is said of it meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import ConditionStatus, Reason
from controller.policy.rollout import LATEST_SECONDS, STILL_SECONDS, Pending, Rollout, progressing, settle

EIGHTHS = st.integers(0, 40).map(lambda number: number / 8)
"""Seconds between looks, which add up exactly."""


@given(st.lists(st.tuples(EIGHTHS, st.sampled_from("abc")), min_size=1, max_size=30))
def test_a_burst_of_changes_is_one_rollout(looks: list[tuple[float, str]]) -> None:
    now, first, changed, pending = 0.0, 0.0, 0.0, None
    for pause, digest in looks:
        now += pause
        if pending is None:
            first = now
        if pending is None or pending.digest != digest:
            changed = now
        pending, wait = settle(pending, digest, now)
        has_stood_still, has_waited_enough = now >= changed + STILL_SECONDS, now >= first + LATEST_SECONDS
        assert (wait == 0) == (has_stood_still or has_waited_enough)
        assert wait <= STILL_SECONDS
        if wait == 0:
            pending = None
        else:
            assert now + wait == min(changed + STILL_SECONDS, first + LATEST_SECONDS)


def test_a_change_is_applied_once_it_has_stood_still() -> None:
    pending, wait = settle(None, "a", 100.0)
    assert (pending, wait) == (Pending("a", 100.0, 100.0), STILL_SECONDS)
    pending, wait = settle(pending, "b", 101.5)
    assert (pending, wait) == (Pending("b", 100.0, 101.5), STILL_SECONDS)
    pending, wait = settle(pending, "b", 103.5)
    assert wait == 0


def test_one_that_never_stands_still_is_applied_at_the_latest() -> None:
    pending, wait = settle(None, "0", 0.0)
    for second in range(1, 11):
        assert wait > 0
        pending, wait = settle(pending, str(second), float(second))
    assert wait == 0


@pytest.mark.parametrize(
    ("rollout", "wanted", "flags", "status", "reason", "told"),
    [
        pytest.param(
            Rollout(total=5, updated=2, old=3, old_calls=4),
            5,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLING_OUT,
            "2 of 5 workers run the new configuration; 3 old ones finish 4 calls.",
            id="under way",
        ),
        pytest.param(
            Rollout(total=2, updated=1, old=1, old_calls=1),
            1,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLING_OUT,
            "1 of 1 workers run the new configuration; 1 old one finishes 1 call.",
            id="the last call",
        ),
        pytest.param(
            Rollout(total=2, updated=2, old=0, old_calls=0, awaited=True),
            2,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLOUT_PENDING,
            "once it has stood still for 2 s",
            id="seen, and not applied yet",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            2,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLING_OUT,
            "0 of 2 workers",
            id="the first workers",
        ),
        pytest.param(
            Rollout(total=2, updated=2, old=0, old_calls=0),
            5,
            "",
            ConditionStatus.FALSE,
            Reason.ROLLED_OUT,
            "Every worker",
            id="more workers are no rollout",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            0,
            "",
            ConditionStatus.FALSE,
            Reason.ROLLED_OUT,
            "Every worker",
            id="none is wanted",
        ),
        pytest.param(
            Rollout(total=2, updated=0, old=2, old_calls=1),
            2,
            "held back",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "Workers go on as they are; nothing new is rolled out until KnowledgeLoaded is true.",
            id="what it needs is missing",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            2,
            "held back",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "No worker is started until KnowledgeLoaded is true.",
            id="what the first workers need is missing",
        ),
        pytest.param(
            Rollout(total=2, updated=2, old=0, old_calls=0),
            0,
            "held back",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "2 workers finish their calls and leave; no other is started until KnowledgeLoaded is true.",
            id="none may run",
        ),
        pytest.param(
            Rollout(total=3, updated=3, old=0, old_calls=0),
            0,
            "suspended",
            ConditionStatus.TRUE,
            Reason.DRAINING,
            "3 workers finish their calls and leave",
            id="suspended, calls go on",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            0,
            "suspended",
            ConditionStatus.FALSE,
            Reason.SUSPENDED,
            "Write suspend: false",
            id="suspended",
        ),
    ],
)
def test_progress(
    rollout: Rollout, wanted: int, flags: str, status: ConditionStatus, reason: Reason, told: str
) -> None:
    obstacle = "KnowledgeLoaded is true" if flags == "held back" else ""
    verdict = progressing(rollout, wanted, obstacle=obstacle, suspended=flags == "suspended")
    assert (verdict.status, verdict.reason) == (status, reason)
    assert told in verdict.message
