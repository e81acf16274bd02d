"""Decides how many workers run: up at once, down after a delay, and never below the number of busy workers."""

from dataclasses import dataclass
from enum import StrEnum

from agentspec import AvatarAgentSpec, DispatchMode, Reason, ScalingMode, ScalingSpec
from controller.policy.verdict import Verdict, false, true


class ScaleReason(StrEnum):
    """Why the number of workers is what it is."""

    STEADY = "Steady"
    """The number of workers is what calls need."""
    MORE_NEEDED = "MoreNeeded"
    """Calls, waiting calls and free slots need more workers."""
    FEWER_NEEDED = "FewerNeeded"
    """Fewer workers were enough for the whole scale-down delay."""
    DELAY_RUNNING = "DelayRunning"
    """Fewer workers would be enough, but the scale-down delay is still running."""
    WORKERS_LOST = "WorkersLost"
    """Workers are lost: others take their place."""
    WORKERS_BUSY = "WorkersBusy"
    """Fewer workers would be enough, but the running ones have calls."""
    CONTESTED = "Contested"
    """Another client set the number, and it stays for a while: see the condition ScalingLimited."""
    STOPPED = "Stopped"
    """No worker may run: the agent is suspended, or another agent holds its name."""


@dataclass(frozen=True, slots=True)
class Load:
    """The demand on workers that are not terminating, and how many of them can meet it."""

    calls: int
    """Calls on workers that are not lost."""
    pending: int
    """Calls that wait for a slot."""
    busy: int
    """Workers with calls, and workers whose number of calls is unknown."""
    busy_unready: bool
    """Whether a busy worker is not ready. Kubernetes removes unready pods first, so no scale-down is safe then."""
    serving: int = 0
    """Workers that are registered."""
    lost: int = 0
    """Workers that Kubernetes counts and that take no calls."""
    lost_ready: int = 0
    """Those of them whose pod is ready. Kubernetes removes unready pods first."""
    failed: int = 0
    """Those of them that took calls before, and whose pod is no longer ready."""
    changes_in: float | None = None
    """Seconds until another worker counts as lost, if nothing happens; None: time alone changes nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How many workers were needed at a time, in seconds of a monotonic clock."""

    at: float
    workers: int


History = tuple[Sample, ...]
"""Samples within the scale-down delay, each larger than all later ones: at most maxWorkers of them."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers to run."""

    workers: int
    reason: ScaleReason
    wanted: int
    """Workers that calls, waiting calls and free slots need, and `replacements`; more than `workers` if maxWorkers
    limits them."""
    history: History
    requeue_after: float | None = None
    """Seconds after which the decision may change without any event; None: it cannot."""
    replacements: int = 0
    """Workers in place of lost ones, which Kubernetes still counts."""

    @property
    def limited(self) -> bool:
        """Whether maxWorkers limits the number of workers."""
        return self.wanted > self.workers and not self.stopped

    @property
    def stopped(self) -> bool:
        """Whether no worker may run."""
        return self.reason is ScaleReason.STOPPED


def why_no_worker_starts(spec: AvatarAgentSpec) -> str:
    """Why no call would ever start a worker, and which field to set; empty: calls start workers."""
    scaling = spec.scaling
    if scaling.mode is ScalingMode.FIXED:
        fixed = (
            "spec.scaling.workers is 0 in mode Fixed: no worker runs, and calls do not start one. Set workers to 1 or "
            "more (or use kubectl scale). To take no calls, set suspend: true; callers then get a clear answer."
        )
        return "" if scaling.workers else fixed
    if spec.dispatch.mode is DispatchMode.AUTOMATIC and not scaling.min_workers and not scaling.free_slots:
        return (
            "No worker runs: with dispatch.mode Automatic the gateway takes no calls, so no waiting call starts one. "
            "Set spec.scaling.minWorkers or spec.scaling.freeSlots to at least 1."
        )
    return ""


def needed(scaling: ScalingSpec, calls_per_worker: int, load: Load) -> int:
    """Workers that hold all calls, the waiting calls and the free slots, before minWorkers and maxWorkers apply."""
    return -(-(load.calls + load.pending + scaling.free_slots) // calls_per_worker)


def decide(
    scaling: ScalingSpec,
    calls_per_worker: int,
    load: Load,
    *,
    stopped: bool,
    current: int | None,
    history: History,
    now: float,
) -> Decision:
    """How many workers to run.

    `stopped`: no worker may run. `current`: the Deployment's replicas; None: there is no Deployment.

    With an empty history (the controller has just started), `current` counts as needed until now.
    """
    if stopped:
        return Decision(0, ScaleReason.STOPPED, 0, ())
    if scaling.mode is ScalingMode.FIXED:
        workers = scaling.workers or 0
        return Decision(workers, _reason(workers, current or 0, workers, 0), workers, ())
    wanted = needed(scaling, calls_per_worker, load)
    able = max(scaling.min_workers, min(wanted, scaling.max_workers))
    replacements = _replacements(able, load)
    if replacements:
        wanted = max(scaling.min_workers, wanted) + replacements
    need = min(able + replacements, scaling.max_workers)
    if not history and current is not None:
        history = (Sample(now, current),)
    history = _add_sample(history, Sample(now, need), scaling.scale_down_delay_seconds)
    if current is None:
        return Decision(need, ScaleReason.MORE_NEEDED, wanted, history, replacements=replacements)
    highest = max(history, key=lambda sample: sample.workers)
    recent = highest.workers
    # Kubernetes removes unready pods first. Of ready ones it could remove one that takes calls instead of a lost one.
    floor = max(need, current) if load.busy_unready else max(need, load.busy, able + load.lost_ready)
    workers = min(max(need, min(max(recent, floor), current)), scaling.max_workers)
    waits = [load.changes_in] if load.changes_in is not None else []
    if recent > need:
        waits.append(highest.at + scaling.scale_down_delay_seconds - now)
    reason = ScaleReason.WORKERS_LOST if able <= current < workers else _reason(workers, current, need, recent)
    return Decision(workers, reason, wanted, history, min(waits, default=None), replacements)


def _replacements(able: int, load: Load) -> int:
    """Workers to add in place of lost ones, when `able` workers should take calls.

    Without a waiting call, two signs are needed: the worker took calls and takes none now, and Kubernetes finds its
    pod unready. A controller that is cut off from all workers therefore starts no second fleet, and pods that cannot
    start do not multiply. Once enough workers serve, lost unready pods are surplus; Kubernetes removes these first.
    """
    if load.serving >= able:
        return 0
    return load.lost if load.pending else load.failed


def _add_sample(history: History, sample: Sample, delay: float) -> History:
    """Add a sample and drop those that no longer matter. The last sample was needed until now."""
    until_now = (*history[:-1], Sample(sample.at, history[-1].workers)) if history else ()
    larger = [old for old in until_now if sample.at - old.at < delay and old.workers > sample.workers]
    return (*larger, sample)


def _reason(workers: int, current: int, need: int, recent: int) -> ScaleReason:
    if workers > current:
        return ScaleReason.MORE_NEEDED
    if workers < current:
        return ScaleReason.FEWER_NEEDED
    if need < current:
        return ScaleReason.DELAY_RUNNING if recent >= current else ScaleReason.WORKERS_BUSY
    return ScaleReason.STEADY


def scaling_limited(scaling: ScalingSpec, decision: Decision, contest: Verdict | None) -> Verdict:
    """Whether maxWorkers allows fewer workers than calls need, so that callers may have to wait.

    `contest`: another client sets the number of workers, too; None: none does.
    """
    if decision.limited:
        message = _limit(scaling, decision)
        return true(Reason.MAX_WORKERS_REACHED, f"{message} {contest.message}" if contest else message)
    if contest is not None:
        return contest
    if scaling.mode is ScalingMode.FIXED:
        return false(Reason.WITHIN_LIMITS, "The number of workers is fixed (spec.scaling.mode: Fixed).")
    limit = f"{scaling.max_workers} workers (spec.scaling.maxWorkers)"
    return false(Reason.WITHIN_LIMITS, f"Calls need no more than {limit}.")


def _limit(scaling: ScalingSpec, decision: Decision) -> str:
    if decision.replacements:
        return (
            f"Lost workers count until their pods are removed: with {decision.replacements} of them, {decision.wanted} "
            f"workers are needed; spec.scaling.maxWorkers allows {scaling.max_workers}. Raise maxWorkers, or delete "
            "the pods that WorkersRegistered names."
        )
    return (
        f"Calls, waiting calls and free slots need {decision.wanted} workers; spec.scaling.maxWorkers allows "
        f"{scaling.max_workers}. Raise maxWorkers or spec.worker.callsPerWorker, or lower spec.scaling.freeSlots."
    )
