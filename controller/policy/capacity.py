"""Counts what an agent's workers hold and can take. Pure."""

from collections.abc import Iterable, Sequence

from agentspec import CallCounts, SlotCounts, WorkerCounts
from controller.observation import ObservedWorker
from controller.policy.availability import availability_of, is_registered
from controller.policy.plan import Counts
from controller.policy.rollout import Rollout
from controller.policy.scale import Load


def load_of(workers: Sequence[ObservedWorker], pending_calls: int, registered_name: str, now: float) -> Load:
    """What the workers that are not terminating have to carry, and which of them can. `now`: Unix seconds.

    Workers that hang without a call do not count: their pods are deleted, and the Deployment replaces them.
    """
    found = availability_of([worker for worker in workers if not worker.hangs_idle], registered_name, now)
    able = (*found.serving, *found.coming)
    busy = [worker for worker in (*able, *found.lost) if _is_busy(worker)]
    return Load(
        calls=sum(worker.status.calls for worker in able if worker.status),
        pending=pending_calls,
        busy=len(busy),
        busy_unready=any(not worker.pod.ready for worker in busy),
        serving=len(found.serving),
        lost=len(found.lost),
        lost_ready=sum(worker.pod.ready for worker in found.lost),
        failed=sum(worker.unregistered_seconds is not None and not worker.pod.ready for worker in found.lost),
        changes_in=found.changes_in,
    )


def rollout_of(workers: Sequence[ObservedWorker], template: str, *, pending: bool) -> Rollout:
    """How many workers were made from the template with this digest. `pending`: another one waits to be applied."""
    updated = [worker for worker in workers if worker.pod.template == template]
    old = [worker for worker in workers if worker.pod.template != template]
    return Rollout(
        total=len(workers),
        updated=sum(worker.pod.ready and not worker.pod.terminating for worker in updated),
        old=len(old),
        old_calls=sum(worker.status.calls for worker in old if worker.status),
        pending=pending,
    )


def counts_of(
    workers: Sequence[ObservedWorker], registered_name: str, *, desired: int, updated: int, pending_calls: int
) -> Counts:
    """The numbers for the status."""
    serving = [worker for worker in workers if is_registered(worker, registered_name)]
    draining = [worker for worker in workers if worker.pod.terminating or (worker.status and worker.status.draining)]
    reported = [worker.status for worker in workers if worker.status]
    return Counts(
        workers=WorkerCounts(
            desired=desired,
            ready=sum(worker.pod.ready and not worker.pod.terminating for worker in workers),
            registered=len(serving),
            updated=updated,
            draining=len(draining),
        ),
        slots=slots_of(serving),
        calls=CallCounts(
            active=sum(status.calls for status in reported),
            pending=pending_calls,
            with_avatar=sum(status.avatars for status in reported),
        ),
    )


def slots_of(serving: Iterable[ObservedWorker]) -> SlotCounts:
    """All slots and the free slots of workers that take calls."""
    reported = [worker.status for worker in serving if worker.status]
    return SlotCounts(
        total=sum(status.slots for status in reported), free=sum(status.free_slots for status in reported)
    )


def _is_busy(worker: ObservedWorker) -> bool:
    """Whether the worker has calls. A ready worker whose calls are unknown may have some."""
    return worker.status.calls > 0 if worker.status is not None else worker.pod.ready
