"""When a change is rolled out, and what Progressing reports meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import ConditionStatus, Reason
from controller.policy.rollout import MAX_WAIT_SECONDS, QUIET_SECONDS, PendingTemplate, Rollout, debounce, progressing

EIGHTHS = st.integers(0, 40).map(lambda number: number / 8)
"""Seconds between observations, which add up without rounding."""


@given(st.lists(st.tuples(EIGHTHS, st.sampled_from("abc")), min_size=1, max_size=30))
def test_burst_of_changes_is_one_rollout(observations: list[tuple[float, str]]) -> None:
    now, first, changed, pending = 0.0, 0.0, 0.0, None
    for pause, digest in observations:
        now += pause
        if pending is None:
            first = now
        if pending is None or pending.digest != digest:
            changed = now
        pending, wait = debounce(pending, digest, now)
        is_quiet, has_waited_enough = now >= changed + QUIET_SECONDS, now >= first + MAX_WAIT_SECONDS
        assert (wait == 0) == (is_quiet or has_waited_enough)
        assert wait <= QUIET_SECONDS
        if wait == 0:
            pending = None
        else:
            assert now + wait == min(changed + QUIET_SECONDS, first + MAX_WAIT_SECONDS)


def test_change_is_applied_after_a_quiet_period() -> None:
    pending, wait = debounce(None, "a", 100.0)
    assert (pending, wait) == (PendingTemplate("a", 100.0, 100.0), QUIET_SECONDS)
    pending, wait = debounce(pending, "b", 101.5)
    assert (pending, wait) == (PendingTemplate("b", 100.0, 101.5), QUIET_SECONDS)
    pending, wait = debounce(pending, "b", 103.5)
    assert wait == 0


def test_constantly_changing_template_is_applied_in_time() -> None:
    pending, wait = debounce(None, "0", 0.0)
    for second in range(1, 11):
        assert wait > 0
        pending, wait = debounce(pending, str(second), float(second))
    assert wait == 0


@pytest.mark.parametrize(
    ("rollout", "wanted", "flags", "status", "reason", "text"),
    [
        pytest.param(
            Rollout(total=5, updated=2, old=3, old_calls=4),
            5,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLING_OUT,
            "2 of 5 workers updated; 3 old workers are finishing 4 calls.",
            id="in progress",
        ),
        pytest.param(
            Rollout(total=2, updated=1, old=1, old_calls=1),
            1,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLING_OUT,
            "1 of 1 workers updated; 1 old worker is finishing 1 call.",
            id="the last old worker with one call",
        ),
        pytest.param(
            Rollout(total=2, updated=2, old=0, old_calls=0, pending=True),
            2,
            "",
            ConditionStatus.TRUE,
            Reason.ROLLOUT_PENDING,
            "when it has not changed for 2 s, at the latest after 10 s",
            id="pending",
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
            id="scaling up is no rollout",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            0,
            "",
            ConditionStatus.FALSE,
            Reason.ROLLED_OUT,
            "All workers",
            id="no worker needed",
        ),
        pytest.param(
            Rollout(total=2, updated=0, old=2, old_calls=1),
            2,
            "blocked",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "Running workers continue unchanged; the rollout is blocked until KnowledgeLoaded is true.",
            id="blocked with workers",
        ),
        pytest.param(
            Rollout(total=0, updated=0, old=0, old_calls=0),
            2,
            "blocked",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "No worker starts until KnowledgeLoaded is true.",
            id="blocked without workers",
        ),
        pytest.param(
            Rollout(total=2, updated=2, old=0, old_calls=0),
            0,
            "blocked",
            ConditionStatus.FALSE,
            Reason.ROLLOUT_BLOCKED,
            "2 workers are draining; no new worker starts until KnowledgeLoaded is true.",
            id="blocked and stopped",
        ),
        pytest.param(
            Rollout(total=3, updated=3, old=0, old_calls=0),
            0,
            "suspended",
            ConditionStatus.TRUE,
            Reason.DRAINING,
            "3 workers are draining",
            id="suspended and draining",
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
    rollout: Rollout, wanted: int, flags: str, status: ConditionStatus, reason: Reason, text: str
) -> None:
    blocked_until = "KnowledgeLoaded is true" if flags == "blocked" else ""
    verdict = progressing(rollout, wanted, blocked_until=blocked_until, suspended=flags == "suspended")
    assert (verdict.status, verdict.reason) == (status, reason)
    assert text in verdict.message
