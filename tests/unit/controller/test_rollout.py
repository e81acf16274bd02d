"""When a change is rolled out, and what is said of it meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import ConditionStatus, Reason
from controller.policy.rollout import MAX_WAIT_SECONDS, QUIET_SECONDS, PendingTemplate, Rollout, debounce, progressing

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
        pending, wait = debounce(pending, digest, now)
        has_stood_still, has_waited_enough = now >= changed + QUIET_SECONDS, now >= first + MAX_WAIT_SECONDS
        assert (wait == 0) == (has_stood_still or has_waited_enough)
        assert wait <= QUIET_SECONDS
        if wait == 0:
            pending = None
        else:
            assert now + wait == min(changed + QUIET_SECONDS, first + MAX_WAIT_SECONDS)


def test_a_change_is_applied_once_it_has_stood_still() -> None:
    pending, wait = debounce(None, "a", 100.0)
    assert (pending, wait) == (PendingTemplate("a", 100.0, 100.0), QUIET_SECONDS)
    pending, wait = debounce(pending, "b", 101.5)
    assert (pending, wait) == (PendingTemplate("b", 100.0, 101.5), QUIET_SECONDS)
    pending, wait = debounce(pending, "b", 103.5)
    assert wait == 0


def test_one_that_never_stands_still_is_applied_at_the_latest() -> None:
    pending, wait = debounce(None, "0", 0.0)
    for second in range(1, 11):
        assert wait > 0
        pending, wait = debounce(pending, str(second), float(second))
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
            "2 of 5 workers updated; 3 old workers are finishing 4 calls.",
            id="under way",
        ),
        pytest.param(
            Rollout(total=2, updated=1, old=1, old_calls=1),
            1,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLING_OUT,
            "1 of 1 workers updated; 1 old worker is finishing 1 call.",
            id="the last call",
        ),
        pytest.param(
            Rollout(total=2, updated=2, old=0, old_calls=0, pending=True),
            2,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLOUT_PENDING,
            "when it has not changed for 2 s, at the latest after 10 s",
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
            "All workers",
            id="more workers are no rollout",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            0,
            "",
            ConditionStatus.FALSE,
            Reason.ROLLED_OUT,
            "All workers",
            id="none is wanted",
        ),
        pytest.param(
            Rollout(total=2, updated=0, old=2, old_calls=1),
            2,
            "held back",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "Running workers continue unchanged; the rollout is blocked until KnowledgeLoaded is true.",
            id="what it needs is missing",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            2,
            "held back",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "No worker starts until KnowledgeLoaded is true.",
            id="what the first workers need is missing",
        ),
        pytest.param(
            Rollout(total=2, updated=2, old=0, old_calls=0),
            0,
            "held back",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "2 workers are draining; no new worker starts until KnowledgeLoaded is true.",
            id="none may run",
        ),
        pytest.param(
            Rollout(total=3, updated=3, old=0, old_calls=0),
            0,
            "suspended",
            ConditionStatus.TRUE,
            Reason.DRAINING,
            "3 workers are draining",
            id="suspended, calls go on",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            0,
            "suspended",
            ConditionStatus.FALSE,
            Reason.SUSPENDED,
            "Set suspend: false",
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
