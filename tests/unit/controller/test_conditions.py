"""The summary, and when a condition's time moves."""

import pytest

from agentspec import Condition, ConditionType, Reason
from controller.policy.conditions import assemble, blocked_until, is_warning, ready, reportable_transitions
from controller.policy.verdict import Verdict, false, true, unknown

GOOD = true(Reason.REGISTERED, "1 of 1 workers registered as 'ava'.")


def verdicts(**found: Verdict) -> dict[ConditionType, Verdict]:
    return {
        ConditionType.CREDENTIALS_VALID: found.get("credentials", true(Reason.CREDENTIALS_ACCEPTED, "")),
        ConditionType.NAME_UNIQUE: found.get("name", true(Reason.NAME_UNIQUE, "")),
        ConditionType.KNOWLEDGE_LOADED: found.get("knowledge", true(Reason.KNOWLEDGE_LOADED, "")),
        ConditionType.AVATAR_AVAILABLE: found.get("avatar", true(Reason.AVATAR_SEATS_FREE, "")),
        ConditionType.WORKERS_REGISTERED: found.get("workers", GOOD),
        ConditionType.PROGRESSING: found.get("progressing", false(Reason.ROLLED_OUT, "")),
        ConditionType.SCALING_LIMITED: found.get("limited", false(Reason.WITHIN_LIMITS, "")),
    }


BROKEN = false(Reason.SECRET_NOT_FOUND, "Create it.")
EMPTY = false(Reason.KNOWLEDGE_EMPTY, "Fill it.")
STARTING = false(Reason.WORKERS_STARTING, "Soon.")
TAKEN = false(Reason.NAME_TAKEN, "Choose another.")
NO_FACE = false(Reason.AVATAR_FAILING, "The account is empty.")
LIMITED = true(Reason.MAX_WORKERS_REACHED, "Raise it.")
ROLLING = true(Reason.ROLLING_OUT, "0 of 1 workers run yet.")
ASKED_IN_VAIN = unknown(Reason.PROVIDER_UNREACHABLE, "OpenAI does not answer.")
REFUSED = false(Reason.APPLY_REJECTED, "Correct it.")


@pytest.mark.parametrize(
    ("found", "summary"),
    [
        pytest.param(verdicts(), true(Reason.ALL_CHECKS_PASSED, GOOD.message), id="all true: ready, with the numbers"),
        pytest.param(verdicts(workers=STARTING), STARTING, id="one false: its reason"),
        pytest.param(verdicts(credentials=BROKEN, workers=STARTING), BROKEN, id="two false: what to mend first"),
        pytest.param(verdicts(knowledge=EMPTY, workers=STARTING), EMPTY, id="knowledge comes before workers"),
        pytest.param(verdicts(name=TAKEN, knowledge=EMPTY), TAKEN, id="the name comes before knowledge"),
        pytest.param(
            verdicts(avatar=NO_FACE, limited=LIMITED, progressing=ROLLING, credentials=ASKED_IN_VAIN),
            true(Reason.ALL_CHECKS_PASSED, GOOD.message),
            id="what keeps no call from being answered",
        ),
    ],
)
def test_ready_is_the_first_thing_to_mend(found: dict[ConditionType, Verdict], summary: Verdict) -> None:
    assert ready(found, suspended=False, blocker=None) == summary


def test_blocker_precedes_suspension_which_precedes_everything_else() -> None:
    assert ready(verdicts(credentials=BROKEN), suspended=True, blocker=None).reason is Reason.SUSPENDED
    assert ready(verdicts(credentials=BROKEN), suspended=True, blocker=REFUSED) is REFUSED


def test_a_remark_is_told_when_all_is_well_and_changes_nothing_else() -> None:
    assert ready(verdicts(), suspended=False, blocker=None, warning="Look.") == true(
        Reason.ALL_CHECKS_PASSED, f"{GOOD.message} Look."
    )
    assert ready(verdicts(credentials=BROKEN), suspended=False, blocker=None, warning="Look.") == BROKEN


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

    assert [entry.type.value for entry in reportable_transitions(conditions(before), conditions(after))] == told


def changed(kind: ConditionType, before: Verdict | None, after: Verdict) -> list[str]:
    """What is told when this condition alone becomes another."""
    old = [] if before is None else assemble([], {kind: before}, generation=1, now="then")
    return [
        entry.reason.value
        for entry in reportable_transitions(old, assemble(old, {kind: after}, generation=2, now="now"))
    ]


@pytest.mark.parametrize(
    ("kind", "before", "after", "told"),
    [
        pytest.param(ConditionType.PROGRESSING, None, ROLLING, [], id="a first start is told by Ready"),
        pytest.param(
            ConditionType.PROGRESSING, false(Reason.ROLLED_OUT, ""), ROLLING, ["RollingOut"], id="a rollout begins"
        ),
        pytest.param(ConditionType.PROGRESSING, ROLLING, false(Reason.ROLLED_OUT, ""), [], id="and ends"),
        pytest.param(
            ConditionType.SCALING_LIMITED,
            false(Reason.WITHIN_LIMITS, ""),
            LIMITED,
            ["MaxWorkersReached"],
            id="more workers are needed than allowed",
        ),
        pytest.param(ConditionType.SCALING_LIMITED, LIMITED, false(Reason.WITHIN_LIMITS, ""), [], id="no more"),
        pytest.param(ConditionType.AVATAR_AVAILABLE, None, NO_FACE, ["AvatarFailing"], id="the face does not come"),
        pytest.param(ConditionType.WORKERS_REGISTERED, GOOD, STARTING, [], id="nothing for a person to mend"),
        pytest.param(
            ConditionType.READY, GOOD, false(Reason.SUSPENDED, ""), ["Suspended"], id="somebody suspended the agent"
        ),
    ],
)
def test_worth_telling_of_one_condition(
    kind: ConditionType, before: Verdict | None, after: Verdict, told: list[str]
) -> None:
    assert changed(kind, before, after) == told


INVALID = false(Reason.INVALID_SPEC, "Correct it.")


@pytest.mark.parametrize(
    ("found", "fault", "told"),
    [
        pytest.param(verdicts(), None, "", id="nothing"),
        pytest.param(
            verdicts(avatar=NO_FACE, workers=STARTING, credentials=ASKED_IN_VAIN, limited=LIMITED),
            None,
            "",
            id="what workers can do without, or nobody knows",
        ),
        pytest.param(verdicts(knowledge=EMPTY), None, "KnowledgeLoaded is true", id="one"),
        pytest.param(
            verdicts(knowledge=EMPTY, credentials=BROKEN, name=TAKEN),
            None,
            "CredentialsValid is true and NameUnique is true and KnowledgeLoaded is true",
            id="all, in the order in which to mend them",
        ),
        pytest.param(verdicts(), INVALID, "the manifest is corrected", id="the manifest itself"),
        pytest.param(
            verdicts(name=TAKEN), INVALID, "NameUnique is true and the manifest is corrected", id="it, and more"
        ),
    ],
)
def test_what_holds_changes_back_is_named(
    found: dict[ConditionType, Verdict], fault: Verdict | None, told: str
) -> None:
    assert blocked_until(found, fault) == told


@pytest.mark.parametrize(
    ("kind", "verdict", "expected"),
    [
        pytest.param(ConditionType.READY, BROKEN, True, id="not ready"),
        pytest.param(ConditionType.READY, GOOD, False, id="ready"),
        pytest.param(
            ConditionType.READY, false(Reason.SUSPENDED, ""), False, id="not ready because somebody wishes it"
        ),
        pytest.param(ConditionType.CREDENTIALS_VALID, ASKED_IN_VAIN, False, id="not known"),
        pytest.param(ConditionType.PROGRESSING, ROLLING, False, id="a rollout"),
        pytest.param(ConditionType.SCALING_LIMITED, LIMITED, True, id="at its limit: true is the bad news"),
        pytest.param(ConditionType.SCALING_LIMITED, false(Reason.WITHIN_LIMITS, ""), False, id="within its limits"),
    ],
)
def test_what_is_worth_a_warning(kind: ConditionType, verdict: Verdict, expected: bool) -> None:
    (found,) = assemble([], {kind: verdict}, generation=1, now="now")
    assert is_warning(found) is expected
