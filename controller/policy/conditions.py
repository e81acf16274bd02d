"""Puts verdicts together: the summary, and conditions whose transition times move only with their status."""

from collections.abc import Mapping, Sequence

from agentspec import Condition, ConditionStatus, ConditionType, Reason
from controller.policy.verdict import Verdict, true

_SUMMARISED = (
    ConditionType.CREDENTIALS_VALID,
    ConditionType.KNOWLEDGE_LOADED,
    ConditionType.WORKERS_REGISTERED,
)
"""In the order in which a person should mend them."""


def ready(verdicts: Mapping[ConditionType, Verdict]) -> Verdict:
    """The summary: the first verdict that is false, else true."""
    for kind in _SUMMARISED:
        if verdicts[kind].status is ConditionStatus.FALSE:
            return verdicts[kind]
    return true(Reason.ALL_CHECKS_PASSED, verdicts[ConditionType.WORKERS_REGISTERED].message)


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
    """Transitions that a person wants to read as events: what broke, and that the agent is ready.

    A summary that is false only repeats what broke, unless no part of it did.
    """
    before = {condition.type: (condition.status, condition.reason) for condition in previous}
    broken = {condition.reason for condition in current if _broken_part(condition)}
    return [
        condition
        for condition in current
        if before.get(condition.type) != (condition.status, condition.reason)
        and (_broken_part(condition) or (condition.type is ConditionType.READY and condition.reason not in broken))
    ]


def _broken_part(condition: Condition) -> bool:
    return condition.type is not ConditionType.READY and condition.status is ConditionStatus.FALSE
