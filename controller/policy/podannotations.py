"""Decides the annotations of worker pods: which pods others should remove first, and which they must not remove. Pure.

Kubernetes removes pods by their deletion cost. Node autoscalers empty a node only when no pod on it forbids this:

- Cluster Autoscaler: `cluster-autoscaler.kubernetes.io/safe-to-evict`. Without it, it gives a pod 600 s at most
  (`--max-graceful-termination-sec`), which would cut calls.
- Karpenter: `karpenter.sh/do-not-disrupt`.
"""

from collections.abc import Iterable, Mapping

from controller.observation import ObservedWorker

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
PROTECTION: Mapping[str, str] = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""On pods with calls."""
IDLE_SECONDS = 10.0
"""How long a worker without calls keeps its protection. One that answers one call after the other causes no writes."""

Annotations = dict[str, dict[str, str | None]]
"""Annotations to change, by pod; None removes one."""


def deletion_costs(workers: Iterable[ObservedWorker]) -> Annotations:
    """The pod-deletion-cost of each pod that needs a new one: its number of calls, so that idle pods are removed first.

    A ready worker whose calls are unknown counts as having one.
    """
    costs: Annotations = {}
    for worker in workers:
        if worker.pod.terminating:
            continue
        calls = worker.status.calls if worker.status is not None else int(worker.pod.ready)
        if (worker.pod.annotations.get(DELETION_COST) or "0") != str(calls):
            costs[worker.pod.name] = {DELETION_COST: str(calls)}
    return costs


def protections(workers: Iterable[ObservedWorker], declared: Mapping[str, str]) -> tuple[Annotations, float | None]:
    """What to change so that exactly the pods with calls are protected, and the seconds until the next change is due.

    `declared`: annotations of the manifest. The controller leaves these alone, and values other than its own.
    """
    own = {name: value for name, value in PROTECTION.items() if name not in declared}
    changes: Annotations = {}
    waits: list[float] = []
    for worker in workers:
        present = worker.pod.annotations
        if worker.status is None:
            continue  # it may have calls
        if worker.status.calls:
            missing = {name: value for name, value in own.items() if name not in present}
            if missing:
                changes[worker.pod.name] = {**missing}
            continue
        unneeded = {name: None for name, value in own.items() if present.get(name) == value}
        if unneeded and worker.idle_seconds >= IDLE_SECONDS:
            changes[worker.pod.name] = {**unneeded}
        elif unneeded:
            waits.append(IDLE_SECONDS - worker.idle_seconds)
    return changes, min(waits, default=None)


def merged(*changes: Annotations) -> Annotations:
    """All changes together, by pod."""
    together: Annotations = {}
    for each in changes:
        for pod, annotations in each.items():
            together[pod] = {**together.get(pod, {}), **annotations}
    return together
