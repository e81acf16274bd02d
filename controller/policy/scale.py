"""Decides how many workers run: up at once, down when fewer have sufficed for a while, never below the busy ones."""

from dataclasses import dataclass
from enum import StrEnum

from agentspec import AvatarAgentSpec, DispatchMode, Reason, ScalingMode, ScalingSpec
from controller.policy.verdict import Verdict, false, true


class ScaleReason(StrEnum):
    """Why there are as many workers as there are."""

    STEADY = "Steady"
    """As many as needed."""
    MORE_NEEDED = "MoreNeeded"
    """Calls, pending calls and free slots need more."""
    FEWER_NEEDED = "FewerNeeded"
    """Fewer have sufficed for the whole delay."""
    DELAY_RUNNING = "DelayRunning"
    """Fewer would do, but not for long enough yet."""
    WORKERS_BUSY = "WorkersBusy"
    """Fewer would do, but those that run have calls."""
    STOPPED = "Stopped"
    """None may run: the agent is suspended, or its name is another's."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the workers that stay have to carry."""

    calls: int
    pending: int
    busy: int
    """Workers with calls, or whose calls are not known."""
    busy_unready: bool
    """Kubernetes takes pods that are not ready first, whatever calls they have: nothing may leave while one is busy."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How many workers were needed at a time (seconds of a monotonic clock)."""

    at: float
    workers: int


History = tuple[Sample, ...]
"""Needs within the delay, each larger than all later ones: at most maxWorkers of them."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers to run."""

    workers: int
    reason: ScaleReason
    wanted: int
    """What calls, pending calls and free slots need: more than `workers` where maxWorkers stands in the way."""
    history: History
    again_in: float | None = None
    """Seconds after which time alone may change the decision; None: never."""

    @property
    def limited(self) -> bool:
        """maxWorkers kept it from being more."""
        return self.wanted > self.workers and not self.stopped

    @property
    def stopped(self) -> bool:
        """None may run."""
        return self.reason is ScaleReason.STOPPED


def never_any(spec: AvatarAgentSpec) -> str:
    """Why no worker would ever run, whatever calls come, and what to write instead; empty: calls start them."""
    scaling = spec.scaling
    if scaling.mode is ScalingMode.FIXED:
        fixed = (
            "spec.scaling.workers is 0 in mode Fixed: nobody answers a call, and none starts a worker. Write 1 or more "
            "(kubectl scale does it too), or suspend: true if no call is to be taken: callers are told so then."
        )
        return "" if scaling.workers else fixed
    if spec.dispatch.mode is DispatchMode.AUTOMATIC and not scaling.min_workers and not scaling.free_slots:
        return (
            "The gateway takes no calls in dispatch.mode Automatic, so none starts a first worker: nobody answers. "
            "Write spec.scaling.minWorkers or freeSlots of at least 1."
        )
    return ""


def needed(scaling: ScalingSpec, calls_per_worker: int, load: Load) -> int:
    """Workers that hold all calls, those waiting, and the free slots; not clamped."""
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
    """How many workers to run. `stopped`: none may. `current`: how many are asked for now, None when there is no
    Deployment yet.

    An empty history (the controller has just started) counts `current` as needed until now.
    """
    if stopped:
        return Decision(0, ScaleReason.STOPPED, 0, ())
    if scaling.mode is ScalingMode.FIXED:
        workers = scaling.workers or 0
        return Decision(workers, _reason(workers, current or 0, workers, 0), workers, ())
    wanted = needed(scaling, calls_per_worker, load)
    need = max(scaling.min_workers, min(wanted, scaling.max_workers))
    if not history and current is not None:
        history = (Sample(now, current),)
    history = _remember(history, Sample(now, need), scaling.scale_down_delay_seconds)
    if current is None:
        return Decision(need, ScaleReason.MORE_NEEDED, wanted, history)
    highest = max(history, key=lambda sample: sample.workers)
    held = highest.workers
    floor = max(need, current) if load.busy_unready else max(need, load.busy)
    workers = min(max(need, min(max(held, floor), current)), scaling.max_workers)
    waits = highest.at + scaling.scale_down_delay_seconds - now if held > need else None
    return Decision(workers, _reason(workers, current, need, held), wanted, history, waits)


def _remember(history: History, sample: Sample, delay: float) -> History:
    """What was decided last has been needed until now."""
    until_now = (*history[:-1], Sample(sample.at, history[-1].workers)) if history else ()
    kept = [old for old in until_now if sample.at - old.at < delay and old.workers > sample.workers]
    return (*kept, sample)


def _reason(workers: int, current: int, need: int, held: int) -> ScaleReason:
    if workers > current:
        return ScaleReason.MORE_NEEDED
    if workers < current:
        return ScaleReason.FEWER_NEEDED
    if need < current:
        return ScaleReason.DELAY_RUNNING if held >= current else ScaleReason.WORKERS_BUSY
    return ScaleReason.STEADY


def scaling_limited(scaling: ScalingSpec, decision: Decision) -> Verdict:
    """Whether callers may have to wait because no more workers are allowed."""
    if decision.limited:
        return true(
            Reason.MAX_WORKERS_REACHED,
            f"Calls, waiting calls and free slots need {decision.wanted} workers; spec.scaling.maxWorkers allows "
            f"{scaling.max_workers}. Raise it, or worker.callsPerWorker, or lower scaling.freeSlots.",
        )
    if scaling.mode is ScalingMode.FIXED:
        return false(Reason.WITHIN_LIMITS, "The number of workers is fixed: calls do not change it.")
    return false(Reason.WITHIN_LIMITS, f"Calls need no more than the {scaling.max_workers} workers allowed.")
