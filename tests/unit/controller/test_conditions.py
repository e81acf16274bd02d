"""The summary, and when a condition's time moves."""

import pytest

from agentspec import Condition, ConditionStatus, ConditionType, Reason
from controller.policy.conditions import assemble, changed, ready
from controller.policy.verdict import Verdict, false, true, unknown

GOOD = true(Reason.REGISTERED, "1 of 1 workers are registered as 'ava'.")


def verdicts(**found: Verdict) -> dict[ConditionType, Verdict]:
    return {
        ConditionType.CREDENTIALS_VALID: found.get("credentials", true(Reason.CREDENTIALS_ACCEPTED, "")),
        ConditionType.KNOWLEDGE_LOADED: found.get("knowledge", true(Reason.KNOWLEDGE_READ, "")),
        ConditionType.WORKERS_REGISTERED: found.get("workers", GOOD),
    }


BROKEN = false(Reason.SECRET_NOT_FOUND, "Create it.")
EMPTY = false(Reason.KNOWLEDGE_EMPTY, "Fill it.")
STARTING = false(Reason.WORKERS_STARTING, "Soon.")
UNTRIED = unknown(Reason.CHECKING, "Later.")


@pytest.mark.parametrize(
    ("found", "summary"),
    [
        pytest.param(verdicts(), true(Reason.ALL_CHECKS_PASSED, GOOD.message), id="all true: ready, with the numbers"),
        pytest.param(verdicts(workers=STARTING), STARTING, id="one false: its reason"),
        pytest.param(verdicts(credentials=BROKEN, workers=STARTING), BROKEN, id="two false: what to mend first"),
        pytest.param(verdicts(credentials=UNTRIED, knowledge=EMPTY), EMPTY, id="false tells more than unknown"),
        pytest.param(verdicts(credentials=UNTRIED), UNTRIED, id="unknown is not true"),
    ],
)
def test_ready_is_the_first_thing_to_mend(found: dict[ConditionType, Verdict], summary: Verdict) -> None:
    assert ready(found) == summary


def condition(verdict: Verdict, at: str, generation: int = 1) -> Condition:
    return Condition(
        type=ConditionType.READY,
        status=verdict.status,
        reason=verdict.reason,
        message=verdict.message,
        observed_generation=generation,
        last_transition_time=at,
    )


@pytest.mark.parametrize(
    ("before", "after", "at"),
    [
        pytest.param([], GOOD, "now", id="a first visit"),
        pytest.param([condition(BROKEN, "then")], GOOD, "now", id="false to true"),
        pytest.param([condition(BROKEN, "then")], STARTING, "then", id="another reason is no transition"),
        pytest.param([condition(GOOD, "then")], GOOD, "then", id="nothing new"),
    ],
)
def test_the_time_moves_only_with_the_status(before: list[Condition], after: Verdict, at: str) -> None:
    (found,) = assemble(before, {ConditionType.READY: after}, generation=7, now=at if at == "then" else "now")
    assert found.last_transition_time == at
    assert (found.status, found.reason, found.observed_generation) == (after.status, after.reason, 7)


def test_conditions_without_a_new_verdict_stay() -> None:
    old = assemble([], verdicts(), generation=1, now="then")
    new = assemble(old, {ConditionType.READY: BROKEN}, generation=2, now="now")
    assert [entry.type for entry in new] == list(ConditionType)
    assert [entry for entry in new if entry.type is not ConditionType.READY] == old


def test_a_change_is_another_status_or_reason_but_not_another_message() -> None:
    before = [condition(BROKEN, "then")]
    same = condition(Verdict(ConditionStatus.FALSE, Reason.SECRET_NOT_FOUND, "in other words"), "then")
    other = condition(STARTING, "then")
    assert changed(before, [same]) == []
    assert changed(before, [other]) == [other]
    assert changed([], [same]) == [same]
