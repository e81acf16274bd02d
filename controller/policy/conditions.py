"""Puts verdicts together: the summary, and conditions whose transition times move only with their status."""

from collections.abc import Mapping, Sequence

from agentspec import Condition, ConditionStatus, ConditionType, Reason
from controller.policy.verdict import Verdict, false, true

_SUMMARISED = (
    ConditionType.CREDENTIALS_VALID,
    ConditionType.NAME_UNIQUE,
    ConditionType.KNOWLEDGE_LOADED,
    ConditionType.WORKERS_REGISTERED,
)
"""In the order in which a person should mend them. An avatar that does not come leaves the voice: no call is lost."""

_HARMLESS = frozenset(
    {
        Reason.WORKERS_STARTING,
        Reason.SUSPENDED,
        Reason.DRAINING,
        Reason.ROLLOUT_BLOCKED,
        Reason.CREDENTIALS_PENDING,
    }
)
"""False, and nothing for a person to mend there."""
_NEEDED = (ConditionType.CREDENTIALS_VALID, ConditionType.NAME_UNIQUE, ConditionType.KNOWLEDGE_LOADED)
"""Without these nothing is started or changed."""


def ready(
    verdicts: Mapping[ConditionType, Verdict], *, suspended: bool, refused: Verdict | None, remark: str = ""
) -> Verdict:
    """The summary: why no call would be answered, or that one would.

    `refused`: why Kubernetes forbids the workers. `remark`: what a person should know all the same when all is well.
    """
    if refused is not None:
        return refused
    if suspended:
        return false(
            Reason.SUSPENDED, "spec.suspend is true: no call is taken. Write suspend: false to take calls again."
        )
    for kind in _SUMMARISED:
        verdict = verdicts[kind]
        if verdict.status is ConditionStatus.FALSE:
            return _awaited(verdicts) if verdict.reason is Reason.ROLLOUT_BLOCKED else verdict
    return true(Reason.ALL_CHECKS_PASSED, f"{verdicts[ConditionType.WORKERS_REGISTERED].message} {remark}".rstrip())


def _awaited(verdicts: Mapping[ConditionType, Verdict]) -> Verdict:
    """What no worker is started without, and nobody can say yet whether it is there."""
    first = next(verdicts[kind] for kind in _NEEDED if verdicts[kind].blocks_rollout)
    return false(first.reason, first.message)


def obstacle(verdicts: Mapping[ConditionType, Verdict], fault: Verdict | None) -> str:
    """What has to come first before anything is started or changed; empty: nothing. `fault`: of the manifest itself."""
    missing = [kind.value for kind in _NEEDED if verdicts[kind].blocks_rollout]
    corrected = ["the manifest is corrected"] if fault is not None else []
    return " and ".join([*(f"{kind} is true" for kind in missing), *corrected])


def warns(condition: Condition) -> bool:
    """Whether the transition to it is something to look after."""
    if condition.type is ConditionType.SCALING_LIMITED:
        return condition.status is ConditionStatus.TRUE
    return condition.status is ConditionStatus.FALSE and condition.reason is not Reason.SUSPENDED


def assemble(
    previous: Sequence[Condition], verdicts: Mapping[ConditionType, Verdict], *, generation: int, now: str
) -> list[Condition]:
    """The conditions to report; those without a new verdict stay as they are. `now` is RFC 3339."""
    before = {condition.type: condition for condition in previous}
    after = dict(before)
    for kind, verdict in verdicts.items():
        old = before.get(kind)
        same = old is not None and old.status is verdict.status and old.last_transition_time is not None
        after[kind] = Condition(
            type=kind,
            status=verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            observed_generation=generation,
            last_transition_time=old.last_transition_time if same and old is not None else now,
        )
    return [after[kind] for kind in ConditionType if kind in after]


def worth_telling(previous: Sequence[Condition], current: Sequence[Condition]) -> list[Condition]:
    """Transitions that a person wants to read as events: what broke, that the agent is ready, that it is at its limit,
    and rollouts.

    A summary that is false only repeats what broke, unless no part of it did.
    """
    before = {condition.type: condition for condition in previous}
    broken = {condition.reason for condition in current if _broken_part(condition)}
    return [
        condition
        for condition in current
        if _changed(before.get(condition.type), condition) and _telling(before, condition, broken)
    ]


def _changed(before: Condition | None, now: Condition) -> bool:
    return before is None or (before.status, before.reason) != (now.status, now.reason)


def _telling(before: Mapping[ConditionType, Condition], now: Condition, broken: set[Reason]) -> bool:
    if now.type is ConditionType.READY:
        return now.reason not in broken | _HARMLESS or now.reason is Reason.SUSPENDED
    if now.type is ConditionType.SCALING_LIMITED:
        return now.status is ConditionStatus.TRUE
    if now.type is ConditionType.PROGRESSING:  # a first start is told by Ready
        return now.reason is Reason.ROLLING_OUT and now.type in before
    return _broken_part(now)


def _broken_part(condition: Condition) -> bool:
    """Something of the agent's own is not as it should be."""
    return (
        condition.type not in (ConditionType.READY, ConditionType.SCALING_LIMITED, ConditionType.PROGRESSING)
        and condition.status is ConditionStatus.FALSE
        and condition.reason not in _HARMLESS
    )
