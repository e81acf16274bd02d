"""The summary Ready, transition times, and the transitions that become events."""

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
        ConditionType.PROVIDERS_HEALTHY: found.get("providers", PAID),
        ConditionType.WORKERS_REGISTERED: found.get("workers", GOOD),
        ConditionType.PROGRESSING: found.get("progressing", false(Reason.ROLLED_OUT, "")),
        ConditionType.SCALING_LIMITED: found.get("limited", false(Reason.WITHIN_LIMITS, "")),
    }


BROKEN = false(Reason.SECRET_NOT_FOUND, "Create it.")
EMPTY = false(Reason.KNOWLEDGE_EMPTY, "Fill it.")
STARTING = false(Reason.WORKERS_STARTING, "Starting.")
TAKEN = false(Reason.NAME_TAKEN, "Choose another.")
NO_AVATAR = false(Reason.AVATAR_FAILING, "The account is empty.")
LIMITED = true(Reason.MAX_WORKERS_REACHED, "Raise it.")
ROLLING = true(Reason.ROLLING_OUT, "0 of 1 workers run yet.")
UNREACHABLE = unknown(Reason.PROVIDER_UNREACHABLE, "OpenAI does not answer.")
UNPAID = false(Reason.QUOTA_EXHAUSTED, "Check the balance.")
MISSPELT = false(Reason.REQUEST_REJECTED, "Correct the voice.")
PENDING = unknown(Reason.PROVIDERS_PENDING, "Not tried.")
PAID = true(Reason.PROVIDERS_SUCCEEDED, "They succeeded.")
REFUSED = false(Reason.APPLY_REJECTED, "Correct it.")


@pytest.mark.parametrize(
    ("found", "summary"),
    [
        pytest.param(
            verdicts(), true(Reason.ALL_CHECKS_PASSED, GOOD.message), id="all true: ready, with the number of workers"
        ),
        pytest.param(verdicts(workers=STARTING), STARTING, id="one false: its reason"),
        pytest.param(verdicts(credentials=BROKEN, workers=STARTING), BROKEN, id="two false: the first reason"),
        pytest.param(verdicts(knowledge=EMPTY, workers=STARTING), EMPTY, id="knowledge comes before workers"),
        pytest.param(verdicts(name=TAKEN, knowledge=EMPTY), TAKEN, id="the name comes before knowledge"),
        pytest.param(
            verdicts(avatar=NO_AVATAR, limited=LIMITED, progressing=ROLLING, credentials=UNREACHABLE, providers=UNPAID),
            true(Reason.ALL_CHECKS_PASSED, GOOD.message),
            id="conditions that prevent no call",
        ),
    ],
)
def test_ready_repeats_the_first_failed_condition(found: dict[ConditionType, Verdict], summary: Verdict) -> None:
    assert ready(found, suspended=False, blocker=None) == summary


def test_blocker_precedes_suspension_which_precedes_everything_else() -> None:
    assert ready(verdicts(credentials=BROKEN), suspended=True, blocker=None).reason is Reason.SUSPENDED
    assert ready(verdicts(credentials=BROKEN), suspended=True, blocker=REFUSED) is REFUSED


def test_warning_is_appended_to_a_ready_agent_only() -> None:
    assert ready(verdicts(), suspended=False, blocker=None, warning="Check.") == true(
        Reason.ALL_CHECKS_PASSED, f"{GOOD.message} Check."
    )
    assert ready(verdicts(credentials=BROKEN), suspended=False, blocker=None, warning="Check.") == BROKEN


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
        pytest.param([], GOOD, "now", id="first report"),
        pytest.param([condition(BROKEN, "then")], GOOD, "now", id="false to true"),
        pytest.param([condition(BROKEN, "then")], STARTING, "then", id="a new reason is no transition"),
        pytest.param([condition(GOOD, "then")], GOOD, "then", id="unchanged"),
    ],
)
def test_transition_time_changes_only_with_the_status(before: list[Condition], after: Verdict, at: str) -> None:
    (found,) = assemble(before, {ConditionType.READY: after}, generation=7, now=at if at == "then" else "now")
    assert found.last_transition_time == at
    assert (found.status, found.reason, found.observed_generation) == (after.status, after.reason, 7)


def test_conditions_without_a_verdict_stay_unchanged() -> None:
    old = assemble([], verdicts(), generation=1, now="then")
    new = assemble(old, {ConditionType.READY: BROKEN}, generation=2, now="now")
    assert [entry.type for entry in new] == list(ConditionType)
    assert [entry for entry in new if entry.type is not ConditionType.READY] == old


def part(verdict: Verdict) -> Condition:
    return condition(verdict, "then").model_copy(update={"type": ConditionType.CREDENTIALS_VALID})


REWORDED = false(Reason.SECRET_NOT_FOUND, "other words")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param([], [(BROKEN, BROKEN)], ["CredentialsValid"], id="the failed condition, not its summary"),
        pytest.param([(BROKEN, BROKEN)], [(BROKEN, REWORDED)], [], id="a reworded message"),
        pytest.param([(BROKEN, BROKEN)], [(GOOD, GOOD)], ["Ready"], id="the agent is ready"),
        pytest.param([(GOOD, GOOD)], [(GOOD, GOOD)], [], id="unchanged"),
        pytest.param([(GOOD, GOOD)], [(REFUSED, GOOD)], ["Ready"], id="a summary with a reason of its own"),
        pytest.param([(STARTING, STARTING)], [(BROKEN, BROKEN)], ["CredentialsValid"], id="another failure"),
    ],
)
def test_reportable_transitions(
    before: list[tuple[Verdict, Verdict]], after: list[tuple[Verdict, Verdict]], expected: list[str]
) -> None:
    def conditions(found: list[tuple[Verdict, Verdict]]) -> list[Condition]:
        return [entry for summary, one in found for entry in (condition(summary, "then"), part(one))]

    assert [entry.type.value for entry in reportable_transitions(conditions(before), conditions(after))] == expected


def changed(kind: ConditionType, before: Verdict | None, after: Verdict) -> list[str]:
    """The reasons of the events when only this condition changes."""
    old = [] if before is None else assemble([], {kind: before}, generation=1, now="then")
    return [
        entry.reason.value
        for entry in reportable_transitions(old, assemble(old, {kind: after}, generation=2, now="now"))
    ]


@pytest.mark.parametrize(
    ("kind", "before", "after", "expected"),
    [
        pytest.param(ConditionType.PROGRESSING, None, ROLLING, [], id="Ready reports a first start"),
        pytest.param(
            ConditionType.PROGRESSING, false(Reason.ROLLED_OUT, ""), ROLLING, ["RollingOut"], id="a rollout begins"
        ),
        pytest.param(ConditionType.PROGRESSING, ROLLING, false(Reason.ROLLED_OUT, ""), [], id="a rollout ends"),
        pytest.param(
            ConditionType.SCALING_LIMITED,
            false(Reason.WITHIN_LIMITS, ""),
            LIMITED,
            ["MaxWorkersReached"],
            id="maxWorkers is reached",
        ),
        pytest.param(
            ConditionType.SCALING_LIMITED, LIMITED, false(Reason.WITHIN_LIMITS, ""), [], id="maxWorkers suffices again"
        ),
        pytest.param(ConditionType.AVATAR_AVAILABLE, None, NO_AVATAR, ["AvatarFailing"], id="the avatar fails"),
        pytest.param(ConditionType.PROVIDERS_HEALTHY, None, UNPAID, ["QuotaExhausted"], id="a provider fails"),
        pytest.param(
            ConditionType.PROVIDERS_HEALTHY, UNPAID, MISSPELT, ["RequestRejected"], id="a provider fails otherwise"
        ),
        pytest.param(ConditionType.PROVIDERS_HEALTHY, UNPAID, PAID, ["ProvidersSucceeded"], id="the provider recovers"),
        pytest.param(ConditionType.PROVIDERS_HEALTHY, PENDING, PAID, [], id="the first trial succeeds"),
        pytest.param(ConditionType.PROVIDERS_HEALTHY, None, PAID, [], id="the providers worked all the time"),
        pytest.param(ConditionType.WORKERS_REGISTERED, GOOD, STARTING, [], id="starting workers need no action"),
        pytest.param(
            ConditionType.READY, GOOD, false(Reason.SUSPENDED, ""), ["Suspended"], id="a user suspends the agent"
        ),
    ],
)
def test_reportable_transition_of_one_condition(
    kind: ConditionType, before: Verdict | None, after: Verdict, expected: list[str]
) -> None:
    assert changed(kind, before, after) == expected


INVALID = false(Reason.INVALID_SPEC, "Correct it.")


@pytest.mark.parametrize(
    ("found", "fault", "expected"),
    [
        pytest.param(verdicts(), None, "", id="nothing"),
        pytest.param(
            verdicts(avatar=NO_AVATAR, workers=STARTING, credentials=UNREACHABLE, limited=LIMITED),
            None,
            "",
            id="conditions that do not block",
        ),
        pytest.param(verdicts(knowledge=EMPTY), None, "KnowledgeLoaded is true", id="one condition"),
        pytest.param(
            verdicts(knowledge=EMPTY, credentials=BROKEN, name=TAKEN),
            None,
            "CredentialsValid is true and NameUnique is true and KnowledgeLoaded is true",
            id="all, in the order in which to fix them",
        ),
        pytest.param(verdicts(), INVALID, "the manifest is corrected", id="an invalid manifest"),
        pytest.param(
            verdicts(name=TAKEN),
            INVALID,
            "NameUnique is true and the manifest is corrected",
            id="an invalid manifest and a condition",
        ),
    ],
)
def test_message_names_what_blocks_changes(
    found: dict[ConditionType, Verdict], fault: Verdict | None, expected: str
) -> None:
    assert blocked_until(found, fault) == expected


@pytest.mark.parametrize(
    ("kind", "verdict", "expected"),
    [
        pytest.param(ConditionType.READY, BROKEN, True, id="not ready"),
        pytest.param(ConditionType.READY, GOOD, False, id="ready"),
        pytest.param(ConditionType.READY, false(Reason.SUSPENDED, ""), False, id="suspended by a user"),
        pytest.param(ConditionType.CREDENTIALS_VALID, UNREACHABLE, False, id="unknown"),
        pytest.param(ConditionType.PROGRESSING, ROLLING, False, id="a rollout"),
        pytest.param(ConditionType.SCALING_LIMITED, LIMITED, True, id="the limit is reached"),
        pytest.param(
            ConditionType.SCALING_LIMITED, false(Reason.WITHIN_LIMITS, ""), False, id="the limit is not reached"
        ),
    ],
)
def test_event_type_of_a_transition(kind: ConditionType, verdict: Verdict, expected: bool) -> None:
    (found,) = assemble([], {kind: verdict}, generation=1, now="now")
    assert is_warning(found) is expected
