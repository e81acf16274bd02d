"""Sorts workers by whether they take calls, will soon take some, or are lost. Pure.

A pod counts as a worker for Kubernetes for as long as it exists. A lost one takes no call: its process hangs, its node
or its network has failed, or it lost LiveKit. Kubernetes may take more than an hour to remove such a pod, because a
worker has that long to finish its calls.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controller.observation import ObservedWorker

REGISTRATION_SECONDS = 15.0
"""Time that a worker has to register: after its first status report, and after it lost its registration. It takes
seconds unless LiveKit rejects or lost it."""
START_SECONDS = 60.0
"""Time that a pod has from its creation to its registration. It takes 5 to 15 s where the image is present."""
_MAX_DOUBLINGS = 6


@dataclass(frozen=True, slots=True)
class Availability:
    """An agent's workers that are not terminating."""

    serving: tuple[ObservedWorker, ...]
    """Registered workers: LiveKit can dispatch calls to them."""
    coming: tuple[ObservedWorker, ...]
    """Workers that start, and workers that lost their registration a moment ago."""
    lost: tuple[ObservedWorker, ...]
    """Workers that are no capacity, and from which nothing can be expected."""
    changes_in: float | None
    """Seconds until the next coming worker counts as lost; None: none does by time alone."""


def is_registered(worker: ObservedWorker, registered_name: str) -> bool:
    """Whether LiveKit can dispatch calls for this name to the worker."""
    status = worker.status
    return (
        not worker.pod.terminating
        and status is not None
        and status.registered
        and not status.draining
        and status.agent_name == registered_name
    )


def availability_of(workers: Sequence[ObservedWorker], registered_name: str, now: float) -> Availability:
    """Sort the workers. `now`: Unix seconds.

    Each lost worker doubles the time that those created after it have to start. Where no worker can start, replacements
    therefore follow each other ever more slowly.
    """
    serving: list[ObservedWorker] = []
    coming: list[ObservedWorker] = []
    lost: list[ObservedWorker] = []
    waits: list[float] = []
    staying = (worker for worker in workers if not worker.pod.terminating)
    for worker in sorted(staying, key=lambda worker: (worker.pod.created, worker.pod.name)):
        if is_registered(worker, registered_name):
            serving.append(worker)
            continue
        left = _seconds_left(worker, now, START_SECONDS * 2 ** min(len(lost), _MAX_DOUBLINGS))
        if left <= 0:
            lost.append(worker)
        else:
            coming.append(worker)
            waits.append(left)
    soonest = min(waits, default=math.inf)
    return Availability(tuple(serving), tuple(coming), tuple(lost), soonest if soonest < math.inf else None)


def hanging(workers: Sequence[ObservedWorker]) -> tuple[str, ...]:
    """Return the pods to delete because their process hangs without a call.

    LiveKit offers calls to such a worker for as long as its connection is open, and waits 10 s for its answer each time
    (livekit-server 1.13.5, pkg/agent/worker.go). Killing the process closes the connection.
    """
    return tuple(worker.pod.name for worker in workers if worker.hangs_idle and not worker.pod.terminating)


def _seconds_left(worker: ObservedWorker, now: float, start_seconds: float) -> float:
    """Seconds until a worker that is not serving counts as lost; infinite: time alone does not decide."""
    status, unregistered = worker.status, worker.unregistered_seconds
    if not worker.pod.node:
        return math.inf  # another pod would wait for a node just the same
    if status is not None and status.registered and not status.draining:
        return math.inf  # under an earlier agent name: the rollout replaces it
    if status is not None and status.code_failure:
        return math.inf  # another worker has the same code, and would not register either
    if unregistered is not None:
        return 0.0 if status is None else REGISTRATION_SECONDS - unregistered
    age = now - worker.pod.created
    return start_seconds - (age if status is None else min(age, worker.reporting_seconds))
