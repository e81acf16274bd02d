"""What a check found: the part of a condition that it decides."""

from dataclasses import dataclass

from agentspec import ConditionStatus, Reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a statement about the world is true, why, and what a person should do."""

    status: ConditionStatus
    reason: Reason
    message: str

    @property
    def blocks_rollout(self) -> bool:
        """Nothing is started or changed on account of it: what workers need is not there, or nobody can say yet.

        Of OpenAI and Tavus nobody may be able to say for hours, and workers run nevertheless.
        """
        undecided = self.status is ConditionStatus.UNKNOWN and self.reason is not Reason.PROVIDER_UNREACHABLE
        return undecided or self.status is ConditionStatus.FALSE


def true(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionStatus.TRUE, reason, message)


def false(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionStatus.FALSE, reason, message)


def unknown(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionStatus.UNKNOWN, reason, message)
