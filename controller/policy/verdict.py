"""The result of one check: status, reason and message of a condition."""

from dataclasses import dataclass

from agentspec import ConditionStatus, Reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a condition is true, why, and what to do about it."""

    status: ConditionStatus
    reason: Reason
    message: str

    @property
    def blocks_rollout(self) -> bool:
        """Whether this verdict blocks rollouts and worker starts: something that workers need is missing or unknown.

        An unreachable OpenAI or Tavus does not block: the outage may last for hours, and workers may still reach them.
        """
        undecided = self.status is ConditionStatus.UNKNOWN and self.reason is not Reason.PROVIDER_UNREACHABLE
        return undecided or self.status is ConditionStatus.FALSE


def true(reason: Reason, message: str) -> Verdict:
    """A condition that holds."""
    return Verdict(ConditionStatus.TRUE, reason, message)


def false(reason: Reason, message: str) -> Verdict:
    """A condition that does not hold."""
    return Verdict(ConditionStatus.FALSE, reason, message)


def unknown(reason: Reason, message: str) -> Verdict:
    """A condition that cannot be decided yet."""
    return Verdict(ConditionStatus.UNKNOWN, reason, message)
