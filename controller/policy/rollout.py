"""Decides Progressing, and when a changed pod template is applied: once for several changes in a burst."""

from dataclasses import dataclass

from agentspec import Reason
from controller.policy.verdict import Verdict, false, true

STILL_SECONDS = 2.0
"""A new pod template is applied when it has not changed for this long."""
LATEST_SECONDS = 10.0
"""It is applied this long after the first change, however often it changes."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """An agent's worker pods by the pod template that they were made from."""

    total: int
    updated: int
    """Made from the present template."""
    old: int
    """Made from an earlier one; they finish their calls."""
    old_calls: int
    awaited: bool = False
    """Another template is about to be applied."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A pod template that is not applied yet. Times are seconds of a monotonic clock."""

    digest: str
    first: float
    """When the first change of the burst was seen."""
    last: float
    """When the latest was."""

    @property
    def due(self) -> float:
        """When it is applied if it does not change again."""
        return min(self.last + STILL_SECONDS, self.first + LATEST_SECONDS)


def settle(pending: Pending | None, digest: str, now: float) -> tuple[Pending, float]:
    """What to remember of a template that differs from the applied one, and in how many seconds to apply it.

    0: now; the caller then forgets it. It also forgets it when the template is the applied one again.
    """
    if pending is None:
        pending = Pending(digest, now, now)
    elif pending.digest != digest:
        pending = Pending(digest, pending.first, now)
    return pending, max(0.0, pending.due - now)


def progressing(rollout: Rollout, wanted: int, obstacle: str, suspended: bool) -> Verdict:
    """How far the workers are from running what the manifest says, none of them if it says that none should.

    `obstacle`: what has to come first before anything is started or changed; empty: nothing.
    """
    if suspended:
        return _suspended(rollout)
    if obstacle:
        return _held_back(rollout, wanted, obstacle)
    if rollout.awaited:
        return true(
            Reason.ROLLOUT_PENDING,
            f"A changed configuration is rolled out once it has stood still for {STILL_SECONDS:.0f} s.",
        )
    if rollout.old:
        old = _count(rollout.old, "old one finishes", "old ones finish")
        calls = _count(rollout.old_calls, "call", "calls")
        return true(
            Reason.ROLLING_OUT, f"{rollout.updated} of {wanted} workers run the new configuration; {old} {calls}."
        )
    if wanted and not rollout.updated:
        return true(Reason.ROLLING_OUT, f"0 of {wanted} workers run yet.")
    return false(Reason.ROLLED_OUT, "Every worker runs the present configuration.")


def _suspended(rollout: Rollout) -> Verdict:
    if rollout.total:
        return true(Reason.DRAINING, f"spec.suspend is true: {_leaving(rollout)}.")
    return false(Reason.SUSPENDED, "spec.suspend is true: no worker runs. Write suspend: false to start them.")


def _held_back(rollout: Rollout, wanted: int, obstacle: str) -> Verdict:
    if not rollout.total:
        message = f"No worker is started until {obstacle}."
    elif wanted:
        message = f"Workers go on as they are; nothing new is rolled out until {obstacle}."
    else:
        message = f"{_leaving(rollout)}; no other is started until {obstacle}."
    return false(Reason.ROLLOUT_BLOCKED, message)


def _leaving(rollout: Rollout) -> str:
    return _count(rollout.total, "worker finishes its calls and leaves", "workers finish their calls and leave")


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
