"""Says which worker pods do not start, why, and what to do about it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.observation import ObservedDeployment, ObservedPod, ObservedWorker
from controller.policy.wording import LONG_QUOTE_LENGTH, quoted

STUCK_SECONDS = 120.0
"""Seconds that a pod may stay in a usual start state. After that, a message names the state and since when."""
_NAMED_PODS = 3
"""Maximum number of pods that a message names."""


@dataclass(frozen=True, slots=True)
class StartProblem:
    """Why one pod does not start."""

    pod: ObservedPod
    cause: str
    """In Kubernetes' words."""
    container: str
    """The container that keeps it from starting; empty: the worker, or the pod itself."""

    @property
    def concerns_image(self) -> bool:
        """Whether the worker's image cannot be pulled."""
        return "Image" in self.cause.partition(":")[0] and not self.container


def start_problems(workers: Iterable[ObservedWorker], now: float) -> list[StartProblem]:
    """The pods that do not start and are not terminating. `now`: Unix seconds."""
    problems = []
    for pod in (worker.pod for worker in workers if not worker.pod.terminating):
        wait = pod.start_wait
        if pod.start_failure:
            problems.append(StartProblem(pod, pod.start_failure, pod.failed_container))
        elif wait is not None and now - wait.unix >= STUCK_SECONDS:
            problems.append(StartProblem(pod, f"{wait.state} since {wait.since}", wait.container))
    return problems


def next_problem_in(workers: Iterable[ObservedWorker], now: float) -> float | None:
    """Seconds until the next pod counts as stuck, if nothing happens; None: none starts."""
    waits = [worker.pod.start_wait for worker in workers if not worker.pod.terminating and not worker.pod.start_failure]
    left = [wait.unix + STUCK_SECONDS - now for wait in waits if wait is not None]
    return min((seconds for seconds in left if seconds > 0), default=None)


def why_not_starting(namespace: str, problems: Sequence[StartProblem], deployment: ObservedDeployment | None) -> str:
    """Why workers cannot start, and what to do; empty: nothing is known to keep them from it."""
    if problems:
        causes = [_described(problem) for problem in problems[:_NAMED_PODS]]
        return f"Workers cannot start: {'; '.join(causes)}. {_remedy(namespace, problems[0])}"
    if deployment is not None and deployment.create_failure:
        cause = quoted(deployment.create_failure, LONG_QUOTE_LENGTH)
        command = f"kubectl describe deployment {deployment.object.name} -n {namespace}"
        return f"Workers cannot start: {cause}. Check quotas and admission policies: {command}"
    return ""


def _described(problem: StartProblem) -> str:
    where = f"pod {problem.pod.name}" + (f", {problem.container}" if problem.container else "")
    return f"{where}: {quoted(problem.cause, LONG_QUOTE_LENGTH)}"


def _remedy(namespace: str, problem: StartProblem) -> str:
    pod, container = problem.pod.name, problem.container.rpartition(" ")[2]
    if problem.concerns_image:
        return (
            "Check spec.worker.image, that nodes can reach the registry, and spec.worker.pod.imagePullSecrets if the "
            "registry needs credentials."
        )
    log = f"kubectl logs {pod} -n {namespace}" + (f" -c {container}" if container else "")
    if problem.cause.startswith("CrashLoopBackOff"):
        return f"Check the log: {log} --previous"
    if container and not problem.pod.start_failure:
        return f"Check its log: {log}"
    return f"Check the pod: kubectl describe pod {pod} -n {namespace}"
