"""Decides WorkersRegistered: workers are registered with LiveKit under exactly the declared name."""

from collections.abc import Sequence

from agentspec import Reason
from controller.observation import ObservedPod, ObservedWorker
from controller.policy.verdict import Verdict, false, true
from controller.policy.wording import AT_LENGTH, QUOTED, quoted

REGISTRATION_SECONDS = 15.0
"""How long a worker may take from its first word to its first registration: seconds, unless LiveKit refuses it."""
_NAMED_PODS = 3
"""Pods that a message names at most."""


def is_registered(worker: ObservedWorker, registered_name: str) -> bool:
    """Whether calls to this name can reach the worker."""
    status = worker.status
    return (
        not worker.pod.terminating
        and status is not None
        and status.registered
        and not status.draining
        and status.agent_name == registered_name
    )


def workers(
    *,
    namespace: str,
    registered_name: str,
    livekit_url: str,
    wanted: int,
    seen: Sequence[ObservedWorker],
    deployment_trouble: str,
    obstacle: str,
    suspended: bool,
    never: str,
) -> Verdict:
    """Whether a call could find a worker.

    `registered_name` is empty when dispatch is automatic. `obstacle`: what has to come first before
    anything is started; empty: nothing. `never`: why no call would start a worker; empty: one would.
    """
    staying = [worker for worker in seen if not worker.pod.terminating]
    registered = [worker for worker in staying if is_registered(worker, registered_name)]
    trouble = _trouble(namespace, staying, deployment_trouble)
    if suspended:
        return false(Reason.SUSPENDED, "spec.suspend is true: no worker takes calls.")
    if registered and wanted:
        message = f"{_counted(len(registered), wanted)} registered {_as(registered_name)}."
        return true(Reason.REGISTERED, f"{message} {trouble}".strip())
    if obstacle and not staying:
        return false(Reason.ROLLOUT_BLOCKED, f"No worker is started until {obstacle}.")
    if wanted == 0:
        return _nobody_wanted(len(seen), "" if obstacle else never)
    strangers = [
        worker
        for worker in staying
        if worker.status and worker.status.registered and worker.status.agent_name != registered_name
    ]
    if strangers:
        named = ", ".join(f"{worker.pod.name} {_as(_reported(worker))}" for worker in strangers[:_NAMED_PODS])
        return false(
            Reason.NAME_MISMATCH,
            f"Workers should be registered {_as(registered_name)}, but are: {named}. Workers of an earlier manifest "
            "are replaced by themselves; otherwise look for LIVEKIT_AGENT_NAME_OVERRIDE in the worker image.",
        )
    if trouble:
        return false(Reason.NOT_REGISTERED, trouble)
    deaf = [worker.pod.name for worker in staying if _deaf(worker)]
    if deaf:
        return false(
            Reason.NOT_REGISTERED,
            f"Pods run but are not registered with LiveKit at {livekit_url}: {', '.join(deaf[:_NAMED_PODS])}. "
            f"See why: kubectl logs {deaf[0]} -n {namespace}",
        )
    return false(Reason.WORKERS_STARTING, "Workers are starting; none is registered yet.")


def _counted(registered: int, wanted: int) -> str:
    if registered > wanted:
        return f"{registered} workers ({wanted} are wanted) are"
    return f"{registered} of {wanted} workers are"


def _nobody_wanted(leaving: int, never: str) -> Verdict:
    finish = f"{leaving} still finish their calls and leave" if leaving > 1 else "1 still finishes its calls and leaves"
    if never:
        return false(Reason.SCALED_TO_ZERO, f"{never} {finish}." if leaving else never)
    if leaving:
        return true(Reason.DRAINING, f"No worker is wanted now; {finish}.")
    return true(Reason.NO_WORKERS_NEEDED, "No worker is wanted now; the first waiting call starts one.")


def _deaf(worker: ObservedWorker) -> bool:
    """It runs, and is registered no more, or should have been by now."""
    if not worker.pod.running or worker.status is None:
        return False
    return bool(worker.status.worker_id) or worker.heard_seconds >= REGISTRATION_SECONDS


def _reported(worker: ObservedWorker) -> str:
    return worker.status.agent_name if worker.status else ""


def _as(name: str) -> str:
    return f"as {name[:QUOTED]!r}" if name else "without a name (automatic dispatch)"


def _trouble(namespace: str, staying: Sequence[ObservedWorker], deployment_trouble: str) -> str:
    troubled = [worker.pod for worker in staying if worker.pod.trouble]
    if troubled:
        named = "; ".join(f"pod {pod.name}: {quoted(pod.trouble, AT_LENGTH)}" for pod in troubled[:_NAMED_PODS])
        return f"Workers cannot start: {named}. {_cure(namespace, troubled[0])}"
    return f"Workers cannot start: {quoted(deployment_trouble, AT_LENGTH)}." if deployment_trouble else ""


def _cure(namespace: str, pod: ObservedPod) -> str:
    if "Image" in pod.trouble.partition(":")[0]:
        return "Check spec.worker.image, and spec.worker.pod.imagePullSecrets if the registry asks for a password."
    if pod.trouble.startswith("CrashLoopBackOff"):
        return f"See why: kubectl logs {pod.name} -n {namespace} --previous"
    return f"See more: kubectl describe pod {pod.name} -n {namespace}"
