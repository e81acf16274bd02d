"""The summary, and when a condition's time moves."""

import pytest

from agentspec import Condition, ConditionType, Reason
from controller.policy.conditions import assemble, ready, worth_telling
from controller.policy.verdict import Verdict, false, true

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


@pytest.mark.parametrize(
    ("found", "summary"),
    [
        pytest.param(verdicts(), true(Reason.ALL_CHECKS_PASSED, GOOD.message), id="all true: ready, with the numbers"),
        pytest.param(verdicts(workers=STARTING), STARTING, id="one false: its reason"),
        pytest.param(verdicts(credentials=BROKEN, workers=STARTING), BROKEN, id="two false: what to mend first"),
        pytest.param(verdicts(knowledge=EMPTY, workers=STARTING), EMPTY, id="knowledge comes before workers"),
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


def part(verdict: Verdict) -> Condition:
    return condition(verdict, "then").model_copy(update={"type": ConditionType.CREDENTIALS_VALID})


REFUSED = false(Reason.APPLY_REFUSED, "Correct it.")
IN_OTHER_WORDS = false(Reason.SECRET_NOT_FOUND, "in other words")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param([], [(BROKEN, BROKEN)], ["CredentialsValid"], id="what broke, and not its summary"),
        pytest.param([(BROKEN, BROKEN)], [(BROKEN, IN_OTHER_WORDS)], [], id="the same in other words"),
        pytest.param([(BROKEN, BROKEN)], [(GOOD, GOOD)], ["Ready"], id="the agent is ready"),
        pytest.param([(GOOD, GOOD)], [(GOOD, GOOD)], [], id="nothing new"),
        pytest.param([(GOOD, GOOD)], [(REFUSED, GOOD)], ["Ready"], id="a summary that says what no part says"),
        pytest.param([(STARTING, STARTING)], [(BROKEN, BROKEN)], ["CredentialsValid"], id="it broke in another way"),
    ],
)
def test_worth_telling(
    before: list[tuple[Verdict, Verdict]], after: list[tuple[Verdict, Verdict]], told: list[str]
) -> None:
    def conditions(found: list[tuple[Verdict, Verdict]]) -> list[Condition]:
        return [entry for summary, one in found for entry in (condition(summary, "then"), part(one))]

    assert [entry.type.value for entry in worth_telling(conditions(before), conditions(after))] == told
