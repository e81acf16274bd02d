"""Assembles conditions from verdicts: the summary Ready, transition times, and the transitions that become events."""

from collections.abc import Mapping, Sequence

from agentspec import Condition, ConditionStatus, ConditionType, Reason
from controller.policy.verdict import Verdict, false, true

_SUMMARISED = (
    ConditionType.CREDENTIALS_VALID,
    ConditionType.NAME_UNIQUE,
    ConditionType.KNOWLEDGE_LOADED,
    ConditionType.WORKERS_REGISTERED,
)
"""In the order in which to fix them. A missing avatar loses no call, so it is not among them."""

_NO_ACTION = frozenset(
    {
        Reason.WORKERS_STARTING,
        Reason.SUSPENDED,
        Reason.DRAINING,
        Reason.ROLLOUT_BLOCKED,
        Reason.CREDENTIALS_PENDING,
    }
)
"""Reasons of false conditions that need no action."""
_NEEDED = (ConditionType.CREDENTIALS_VALID, ConditionType.NAME_UNIQUE, ConditionType.KNOWLEDGE_LOADED)
"""The controller starts and changes nothing until these are true."""


def ready(
    verdicts: Mapping[ConditionType, Verdict], *, suspended: bool, blocker: Verdict | None, warning: str = ""
) -> Verdict:
    """The summary: whether a call would be answered, and otherwise why not.

    `blocker`: an invalid spec, or why the API server does not accept the workers; it overrides everything else.
    `warning`: appended to the message of a ready agent.
    """
    if blocker is not None:
        return blocker
    if suspended:
        return false(
            Reason.SUSPENDED, "spec.suspend is true: the agent takes no calls. Set suspend: false to take calls again."
        )
    for kind in _SUMMARISED:
        verdict = verdicts[kind]
        if verdict.status is ConditionStatus.FALSE:
            return _first_blocker(verdicts) if verdict.reason is Reason.ROLLOUT_BLOCKED else verdict
    return true(Reason.ALL_CHECKS_PASSED, f"{verdicts[ConditionType.WORKERS_REGISTERED].message} {warning}".rstrip())


def _first_blocker(verdicts: Mapping[ConditionType, Verdict]) -> Verdict:
    """The first condition that workers wait for; it may still be unknown."""
    first = next(verdicts[kind] for kind in _NEEDED if verdicts[kind].blocks_rollout)
    return false(first.reason, first.message)


def blocked_until(verdicts: Mapping[ConditionType, Verdict], fault: Verdict | None) -> str:
    """What must happen before workers start or change, as the end of a sentence; empty when nothing blocks.

    `fault`: why the spec itself is invalid.
    """
    missing = [kind.value for kind in _NEEDED if verdicts[kind].blocks_rollout]
    corrected = ["the manifest is corrected"] if fault is not None else []
    return " and ".join([*(f"{kind} is true" for kind in missing), *corrected])


def causes(verdicts: Mapping[ConditionType, Verdict], fault: Verdict | None) -> str:
    """What blocks, and what to do about it: the messages that `blocked_until` refers to."""
    blocking = [verdicts[kind].message for kind in _NEEDED if verdicts[kind].blocks_rollout]
    return " ".join([*blocking, *([] if fault is None else [fault.message])])


def is_warning(condition: Condition) -> bool:
    """Whether its event is of type Warning."""
    if condition.type is ConditionType.SCALING_LIMITED:
        return condition.status is ConditionStatus.TRUE
    if condition.reason is Reason.PARTLY_REGISTERED:
        return True
    return condition.status is ConditionStatus.FALSE and condition.reason is not Reason.SUSPENDED


def assemble(
    previous: Sequence[Condition], verdicts: Mapping[ConditionType, Verdict], *, generation: int, now: str
) -> list[Condition]:
    """The conditions to report. Those without a verdict stay unchanged. `now` is RFC 3339."""
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


def reportable_transitions(previous: Sequence[Condition], current: Sequence[Condition]) -> list[Condition]:
    """The transitions that become events: a failure, also of some workers only, ready, a rollout, the worker limit, and
    providers that recover.

    A false Ready repeats the reason of a failed condition; then it gets no event of its own.
    """
    before = {condition.type: condition for condition in previous}
    failed = {condition.reason for condition in current if _has_failed(condition)}
    return [
        condition
        for condition in current
        if _changed(before.get(condition.type), condition) and _is_reportable(before, condition, failed)
    ]


def _changed(before: Condition | None, now: Condition) -> bool:
    return before is None or (before.status, before.reason) != (now.status, now.reason)


def _is_reportable(before: Mapping[ConditionType, Condition], now: Condition, failed: set[Reason]) -> bool:
    if now.type is ConditionType.READY:
        return now.reason not in failed | _NO_ACTION or now.reason is Reason.SUSPENDED
    if now.type is ConditionType.SCALING_LIMITED:
        return now.status is ConditionStatus.TRUE
    if now.type is ConditionType.PROGRESSING:  # Ready reports a first start
        return now.reason is Reason.ROLLING_OUT and now.type in before
    if now.type is ConditionType.PROVIDERS_HEALTHY and now.status is ConditionStatus.TRUE:
        return before[now.type].status is ConditionStatus.FALSE if now.type in before else False
    return _has_failed(now) or now.reason is Reason.PARTLY_REGISTERED


def _has_failed(condition: Condition) -> bool:
    """Whether a condition other than a summary is false and needs action."""
    return (
        condition.type not in (ConditionType.READY, ConditionType.SCALING_LIMITED, ConditionType.PROGRESSING)
        and condition.status is ConditionStatus.FALSE
        and condition.reason not in _NO_ACTION
    )
