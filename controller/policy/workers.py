"""Decides WorkersRegistered: workers are registered with LiveKit under exactly the declared agent name."""

from collections.abc import Sequence

from agentspec import AvatarAgentSpec, Reason
from controller.observation import ObservedDeployment, ObservedPod, ObservedWorker
from controller.policy.availability import REGISTRATION_SECONDS, availability_of
from controller.policy.scale import why_no_worker_starts
from controller.policy.snapshot import Snapshot
from controller.policy.verdict import Verdict, false, true
from controller.policy.wording import LONG_QUOTE_LENGTH, QUOTE_LENGTH, quoted

_NAMED_PODS = 3
"""Maximum number of pods that a message names."""


def workers_registered(snapshot: Snapshot, spec: AvatarAgentSpec, wanted: int, blocked_until: str) -> Verdict:
    """Whether LiveKit has a worker to dispatch a call to.

    `wanted`: how many workers should run. `blocked_until`: what must happen before workers start; empty when nothing
    blocks.
    """
    namespace, registered_name = snapshot.key.namespace, snapshot.registered_name
    staying = [worker for worker in snapshot.workers if not worker.pod.terminating]
    available = availability_of(snapshot.workers, registered_name, snapshot.now.unix)
    failure = _start_failure(namespace, staying, snapshot.deployment)
    silent = [worker.pod for worker in available.lost if worker.status is None and not worker.pod.start_failure]
    if spec.suspend:
        return false(Reason.SUSPENDED, "spec.suspend is true: no worker takes calls.")
    if available.serving and wanted:
        parts = (_registered(len(available.serving), wanted, registered_name), failure, _lost(namespace, silent))
        return true(Reason.REGISTERED, " ".join(part for part in parts if part))
    if blocked_until and not staying:
        return false(Reason.ROLLOUT_BLOCKED, f"No worker starts until {blocked_until}.")
    if wanted == 0:
        return _none_wanted(len(snapshot.workers), "" if blocked_until else why_no_worker_starts(spec))
    misnamed = [
        worker
        for worker in staying
        if worker.status and worker.status.registered and worker.status.agent_name != registered_name
    ]
    if misnamed:
        named = ", ".join(f"{worker.pod.name} {_as(_reported_name(worker))}" for worker in misnamed[:_NAMED_PODS])
        return false(
            Reason.NAME_MISMATCH,
            f"Workers should be registered {_as(registered_name)}, but are registered otherwise: {named}. Workers of "
            "an earlier manifest are replaced automatically. If this persists, check that the worker image does not "
            "set LIVEKIT_AGENT_NAME_OVERRIDE.",
        )
    if failure:
        return false(Reason.NOT_REGISTERED, failure)
    if silent:
        return false(Reason.WORKERS_LOST, f"No worker takes calls. {_lost(namespace, silent)}")
    unregistered = [worker.pod.name for worker in staying if _unregistered(worker)]
    if unregistered:
        return false(
            Reason.NOT_REGISTERED,
            f"Worker pods are running but not registered with LiveKit at {spec.livekit.url}: "
            f"{', '.join(unregistered[:_NAMED_PODS])}. Check the log: kubectl logs {unregistered[0]} -n {namespace}",
        )
    return false(Reason.WORKERS_STARTING, "Workers are starting; none is registered yet.")


def _registered(number: int, wanted: int, name: str) -> str:
    if number > wanted:
        return f"{number} workers registered {_as(name)} ({wanted} needed)."
    return f"{number} of {wanted} workers registered {_as(name)}."


def _none_wanted(draining: int, no_start: str) -> Verdict:
    drain = f"{draining} workers are draining" if draining > 1 else "1 worker is draining"
    if no_start:
        return false(Reason.SCALED_TO_ZERO, f"{no_start} {drain}." if draining else no_start)
    if draining:
        return true(Reason.DRAINING, f"No worker is needed now; {drain}.")
    return true(Reason.NO_WORKERS_NEEDED, "No worker is needed now; the first waiting call starts one.")


def _unregistered(worker: ObservedWorker) -> bool:
    """Whether the worker runs but has lost its registration, or should have registered by now."""
    if not worker.pod.running or worker.status is None:
        return False
    return bool(worker.status.worker_id) or worker.reporting_seconds >= REGISTRATION_SECONDS


def _lost(namespace: str, silent: Sequence[ObservedPod]) -> str:
    """Which pods run and report nothing, and what to check; empty: none."""
    if not silent:
        return ""
    named = ", ".join(f"{pod.name} on node {pod.node}" for pod in silent[:_NAMED_PODS])
    first = silent[0]
    return (
        f"Lost workers take no calls, and others start within spec.scaling.maxWorkers: {named}. The process hangs, its "
        "node or network has failed, or a NetworkPolicy or service mesh blocks the controller. Check the node and the "
        f"pod: kubectl get node {first.node}; kubectl describe pod {first.name} -n {namespace}"
    )


def _reported_name(worker: ObservedWorker) -> str:
    return worker.status.agent_name if worker.status else ""


def _as(name: str) -> str:
    return f"as {name[:QUOTE_LENGTH]!r}" if name else "without a name (automatic dispatch)"


def _start_failure(namespace: str, staying: Sequence[ObservedWorker], deployment: ObservedDeployment | None) -> str:
    failed = [worker.pod for worker in staying if worker.pod.start_failure]
    if failed:
        causes = [f"pod {pod.name}: {quoted(pod.start_failure, LONG_QUOTE_LENGTH)}" for pod in failed[:_NAMED_PODS]]
        return f"Workers cannot start: {'; '.join(causes)}. {_remedy(namespace, failed[0])}"
    if deployment is not None and deployment.create_failure:
        cause = quoted(deployment.create_failure, LONG_QUOTE_LENGTH)
        command = f"kubectl describe deployment {deployment.object.name} -n {namespace}"
        return f"Workers cannot start: {cause}. Check quotas and admission policies: {command}"
    return ""


def _remedy(namespace: str, pod: ObservedPod) -> str:
    if "Image" in pod.start_failure.partition(":")[0]:
        return (
            "Check spec.worker.image, that nodes can reach the registry, and spec.worker.pod.imagePullSecrets if the "
            "registry needs credentials."
        )
    if pod.start_failure.startswith("CrashLoopBackOff"):
        return f"Check the log: kubectl logs {pod.name} -n {namespace} --previous"
    return f"Check the pod: kubectl describe pod {pod.name} -n {namespace}"
