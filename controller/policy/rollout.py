"""Decides Progressing, and when a changed pod template is applied: once for a burst of changes."""

from dataclasses import dataclass

from agentspec import Reason
from controller.policy.verdict import Verdict, false, true

QUIET_SECONDS = 2.0
"""A changed pod template is applied when it has not changed again for this long."""
MAX_WAIT_SECONDS = 10.0
"""It is applied at the latest this long after the first change, however often it changes."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """An agent's worker pods, counted by the pod template that they were created from."""

    total: int
    updated: int
    """Ready pods with the current template."""
    old: int
    """Pods with an earlier template, which are draining or about to be replaced."""
    old_calls: int
    """Calls on the old pods."""
    pending: bool = False
    """A changed template is about to be applied."""


@dataclass(frozen=True, slots=True)
class PendingTemplate:
    """A changed pod template that is not applied yet. Times are seconds of a monotonic clock."""

    digest: str
    first: float
    """When the first change of the burst was observed."""
    last: float
    """When the latest change was observed."""

    @property
    def due(self) -> float:
        """When to apply the template if it does not change again."""
        return min(self.last + QUIET_SECONDS, self.first + MAX_WAIT_SECONDS)


def debounce(pending: PendingTemplate | None, digest: str, now: float) -> tuple[PendingTemplate, float]:
    """The pending template and the seconds until it may be applied, for a template that differs from the applied one.

    0 seconds means now. The caller drops the pending template when it is applied, and when the desired template equals
    the applied one again.
    """
    if pending is None:
        pending = PendingTemplate(digest, now, now)
    elif pending.digest != digest:
        pending = PendingTemplate(digest, pending.first, now)
    return pending, max(0.0, pending.due - now)


def progressing(rollout: Rollout, wanted: int, blocked_until: str, suspended: bool) -> Verdict:
    """Whether a rollout or a drain is in progress.

    `blocked_until`: what must happen before a rollout; empty when nothing blocks.
    """
    if suspended:
        return _suspended(rollout)
    if blocked_until:
        return _blocked(rollout, wanted, blocked_until)
    if rollout.pending:
        return true(
            Reason.ROLLOUT_PENDING,
            f"The configuration changed. The rollout starts when it has not changed for {QUIET_SECONDS:.0f} s, at the "
            f"latest after {MAX_WAIT_SECONDS:.0f} s.",
        )
    if rollout.old:
        old = "1 old worker is finishing" if rollout.old == 1 else f"{rollout.old} old workers are finishing"
        calls = "1 call" if rollout.old_calls == 1 else f"{rollout.old_calls} calls"
        return true(Reason.ROLLING_OUT, f"{rollout.updated} of {wanted} workers updated; {old} {calls}.")
    if wanted and not rollout.updated:
        return true(Reason.ROLLING_OUT, f"0 of {wanted} workers are ready.")
    return false(Reason.ROLLED_OUT, "All workers run the current configuration.")


def _suspended(rollout: Rollout) -> Verdict:
    if rollout.total:
        return true(Reason.DRAINING, f"spec.suspend is true: {_draining(rollout)}.")
    return false(Reason.SUSPENDED, "spec.suspend is true: no worker runs. Set suspend: false to start workers.")


def _blocked(rollout: Rollout, wanted: int, blocked_until: str) -> Verdict:
    if not rollout.total:
        message = f"No worker starts until {blocked_until}."
    elif wanted:
        message = f"Running workers continue unchanged; the rollout is blocked until {blocked_until}."
    else:
        message = f"{_draining(rollout)}; no new worker starts until {blocked_until}."
    return false(Reason.ROLLOUT_BLOCKED, message)


def _draining(rollout: Rollout) -> str:
    return "1 worker is draining" if rollout.total == 1 else f"{rollout.total} workers are draining"
