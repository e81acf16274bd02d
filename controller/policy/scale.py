"""Decides how many workers run: up at once, down when fewer have sufficed for a while, never below the busy ones."""

from dataclasses import dataclass
from enum import StrEnum

from agentspec.resource import ScalingSpec


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
    workers: int
    reason: ScaleReason
    limited: bool
    """maxWorkers kept it from being more."""
    history: History


def needed(scaling: ScalingSpec, calls_per_worker: int, load: Load) -> int:
    """Workers that hold all calls, those waiting, and the free slots; not clamped."""
    return -(-(load.calls + load.pending + scaling.free_slots) // calls_per_worker)


def decide(
    scaling: ScalingSpec, calls_per_worker: int, load: Load, *, current: int | None, history: History, now: float
) -> Decision:
    """How many workers to run. `current`: how many are asked for now, None when there is no Deployment yet.

    An empty history (the controller has just started) counts `current` as needed until now.
    """
    wanted = needed(scaling, calls_per_worker, load)
    need = max(scaling.min_workers, min(wanted, scaling.max_workers))
    limited = wanted > scaling.max_workers
    if not history and current is not None:
        history = (Sample(now, current),)
    history = _remember(history, Sample(now, need), scaling.scale_down_delay_seconds)
    if current is None:
        return Decision(need, ScaleReason.MORE_NEEDED, limited, history)
    held = max(sample.workers for sample in history)
    floor = max(need, current) if load.busy_unready else max(need, load.busy)
    workers = min(max(need, min(max(held, floor), current)), scaling.max_workers)
    return Decision(workers, _reason(workers, current, need, held), limited, history)


def _remember(history: History, sample: Sample, delay: float) -> History:
    kept = [old for old in history if sample.at - old.at < delay and old.workers > sample.workers]
    return (*kept, sample)


def _reason(workers: int, current: int, need: int, held: int) -> ScaleReason:
    if workers > current:
        return ScaleReason.MORE_NEEDED
    if workers < current:
        return ScaleReason.FEWER_NEEDED
    if need < current:
        return ScaleReason.DELAY_RUNNING if held >= current else ScaleReason.WORKERS_BUSY
    return ScaleReason.STEADY
