"""What a check found: the part of a condition that it decides."""

from dataclasses import dataclass

from agentspec import ConditionStatus, Reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a statement about the world is true, why, and what a person should do."""

    status: ConditionStatus
    reason: Reason
    message: str


def true(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionStatus.TRUE, reason, message)


def false(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionStatus.FALSE, reason, message)


def unknown(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionStatus.UNKNOWN, reason, message)
