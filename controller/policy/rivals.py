"""Decides what to do about another client that sets the number of workers on their Deployment. Pure.

An autoscaler or a script that sets `replicas` again and again would start and stop pods without end. The controller
therefore leaves the other's number for a while, longer each time, and names the other in a condition.
"""

from dataclasses import dataclass, replace

from agentspec import Reason, ScalingMode, ScalingSpec
from controller.observation import Key, ReplicasWriter
from controller.policy.scale import Decision, ScaleReason
from controller.policy.verdict import Verdict, true
from controller.policy.wording import quoted

HOLD_SECONDS = 300.0
"""How long another client's number stays the first time; it doubles with each further write."""
MAX_HOLD_SECONDS = 3600.0
MEMORY_SECONDS = 7200.0
"""How long a write counts as one of a series: longer than its number stays."""
_TOLERATED_CUTS = 2
"""How often too low a number is corrected at once."""
_AUTOSCALER = "kube-controller-manager"
"""The field manager of HorizontalPodAutoscalers."""


@dataclass(frozen=True, slots=True)
class Rival:
    """The other client's last write, and how many preceded it. Times are seconds of a monotonic clock."""

    writer: ReplicasWriter
    count: int
    """Writes of a series that the controller did not want; 0: none."""
    at: float
    """When the last one was observed."""
    too_low: bool
    """Whether it asked for fewer workers than needed."""

    @property
    def hold_seconds(self) -> float:
        """How long its number stays. A single edit of the Deployment itself is corrected at once."""
        if not self.count or (self.count == 1 and not self.writer.scaled):
            return 0.0
        if self.too_low and self.count <= _TOLERATED_CUTS:
            return 0.0
        return min(HOLD_SECONDS * 2.0 ** min(self.count - 1, 10), MAX_HOLD_SECONDS)

    def holds_for(self, now: float) -> float:
        """Seconds for which its number stays from now on; 0 or less: the controller sets its own."""
        return self.at + self.hold_seconds - now


def rival_of(before: Rival | None, writer: ReplicasWriter | None, wanted: int, now: float) -> Rival | None:
    """The other client that sets the number of workers; None: there is none.

    `writer`: who owns `replicas` besides the controller. `wanted`: the workers that the controller decided on.
    """
    if before is not None and now - before.at > MEMORY_SECONDS:
        before = None
    if writer is None or (before is not None and before.writer == writer):
        return before
    count = 0 if before is None else before.count
    if writer.replicas == wanted:
        return Rival(writer, count, now if before is None else before.at, too_low=False)
    return Rival(writer, count + 1, now, too_low=writer.replicas < wanted)


def contested(
    decision: Decision, rival: Rival | None, scaling: ScalingSpec, current: int | None, *, waiting: bool, now: float
) -> Decision:
    """The decision while the other client's number stays.

    More workers than needed stay, within maxWorkers. Fewer stay only while no call waits (`waiting`).
    """
    left = 0.0 if rival is None else rival.holds_for(now)
    if rival is None or decision.stopped or current is None or left <= 0:
        return decision
    limit = max(decision.workers, scaling.max_workers)
    workers = decision.workers
    if current > decision.workers:
        workers = min(current, limit)
    elif rival.too_low and rival.writer.replicas == current and not waiting:
        workers = current
    if workers == decision.workers:
        return decision
    waits = [left] if decision.requeue_after is None else [left, decision.requeue_after]
    return replace(decision, workers=workers, reason=ScaleReason.CONTESTED, requeue_after=min(waits))


def replicas_contested(rival: Rival | None, scaling: ScalingSpec, key: Key, now: float) -> Verdict | None:
    """Who else sets the number of workers, and what to do about it; None: nobody, or a single edit."""
    if rival is None or (rival.count < 2 and rival.holds_for(now) <= 0) or not rival.count:
        return None
    writer = rival.writer
    name = quoted(writer.manager)
    who = f"A HorizontalPodAutoscaler (field manager {name!r})" if name == _AUTOSCALER else f"Field manager {name!r}"
    times = "" if rival.count == 1 else f", {rival.count} times so far"
    stays = (
        f"This number stays for {rival.hold_seconds / 60:.0f} minutes, and longer each time, so that pods do not come "
        "and go."
        if rival.hold_seconds
        else "The controller corrected it."
    )
    fixed = f"kubectl scale ava {key.name} --replicas N -n {key.namespace}"
    number = (
        f"Use {fixed}"
        if scaling.mode is ScalingMode.FIXED
        else f"Set spec.scaling.minWorkers, or set mode Fixed and use {fixed}"
    )
    return true(
        Reason.REPLICAS_CONTESTED,
        f"{who} sets the replicas of Deployment {key.name}-worker to {writer.replicas}{times}. {stays} "
        f"{number}. Find an autoscaler that targets the Deployment, and delete it: kubectl get hpa -n "
        f"{key.namespace}",
    )
