"""Decides WorkersRegistered: workers are registered with LiveKit under exactly the declared agent name."""

from collections.abc import Sequence

from agentspec import AvatarAgentSpec, Reason
from agentspec.wire import ProviderStage
from controller.observation import ObservedPod, ObservedWorker
from controller.policy.availability import REGISTRATION_SECONDS, availability_of
from controller.policy.scale import why_no_worker_starts
from controller.policy.snapshot import Snapshot
from controller.policy.startup import start_problems, why_not_starting
from controller.policy.verdict import Verdict, false, true
from controller.policy.wording import QUOTE_LENGTH, quoted

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
    problems = start_problems(snapshot.workers, snapshot.now.unix)
    failure = why_not_starting(namespace, problems, snapshot.deployment)
    current = [worker for worker in staying if worker.pod.template == snapshot.template]
    broken = _code_failure(namespace, spec, current)
    silent = [worker.pod for worker in available.lost if worker.status is None and _has_started(worker.pod)]
    if spec.suspend:
        return false(Reason.SUSPENDED, "spec.suspend is true: no worker takes calls.")
    if available.serving and wanted:
        parts = (
            _registered(len(available.serving), wanted, registered_name),
            failure,
            broken,
            _lost(namespace, silent),
        )
        reason = Reason.PARTLY_REGISTERED if failure or broken or silent else Reason.REGISTERED
        return true(reason, " ".join(part for part in parts if part))
    if blocked_until and not staying:
        return false(Reason.ROLLOUT_BLOCKED, f"No worker starts until {blocked_until}.")
    if wanted == 0:
        return _none_wanted(len(snapshot.workers), "" if blocked_until else why_no_worker_starts(spec))
    if broken:
        return false(Reason.AGENT_CODE_FAILED, broken)
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
        image = bool(problems) and problems[0].concerns_image
        return false(Reason.IMAGE_PULL_FAILED if image else Reason.NOT_REGISTERED, failure)
    if silent:
        return false(Reason.WORKERS_LOST, f"No worker takes calls. {_lost(namespace, silent)}")
    if any(_cannot_use_settings(worker) for worker in staying):
        return false(
            Reason.NOT_REGISTERED,
            "Worker pods run and do not register, because they cannot use the settings of a stage: see "
            "ProvidersHealthy.",
        )
    unregistered = [worker.pod.name for worker in staying if _unregistered(worker)]
    if unregistered:
        return false(
            Reason.NOT_REGISTERED,
            f"Worker pods are running but not registered with LiveKit at {spec.livekit.url}: "
            f"{', '.join(unregistered[:_NAMED_PODS])}. Check the log: kubectl logs {unregistered[0]} -n {namespace}",
        )
    return false(Reason.WORKERS_STARTING, "Workers are starting; none is registered yet.")


def _code_failure(namespace: str, spec: AvatarAgentSpec, workers: Sequence[ObservedWorker]) -> str:
    """Why workers cannot use the own code of the agent, and what to do; empty: they can."""
    broken = [worker for worker in workers if worker.status is not None and worker.status.code_failure]
    if not broken or broken[0].status is None:
        return ""
    image = f" in image {spec.worker.image}" if spec.worker.image else " in the stock image"
    return (
        f"The code of spec.worker.agent {spec.worker.agent!r}{image} cannot be used: "
        f"{quoted(broken[0].status.code_failure)}. Correct the code and set its image in spec.worker.image, or correct "
        "spec.worker.agent. Workers with such code take no calls. The log has the whole traceback: "
        f"kubectl logs {broken[0].pod.name} -n {namespace}"
    )


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


def _cannot_use_settings(worker: ObservedWorker) -> bool:
    """Whether the worker reports that the settings of a stage are wrong."""
    reports = worker.status.stages if worker.status is not None else None
    if reports is None:
        return False
    failures = [reports.of(stage).failure for stage in ProviderStage]
    return any(failure is not None and failure.fault for failure in failures)


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


def _has_started(pod: ObservedPod) -> bool:
    return not pod.start_failure and pod.start_wait is None


def _reported_name(worker: ObservedWorker) -> str:
    return worker.status.agent_name if worker.status else ""


def _as(name: str) -> str:
    return f"as {name[:QUOTE_LENGTH]!r}" if name else "without a name (automatic dispatch)"
