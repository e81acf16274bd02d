"""Pods that do not start: what their status says, and what the condition makes of it."""

from typing import Any

import pytest

from controller.cluster.observe import observe_pod
from controller.observation import ObservedDeployment, ObservedPod, ObservedWorker, StartWait
from controller.policy.startup import STUCK_SECONDS, next_problem_in, start_problems, why_not_starting
from tests.unit.controller.builders import CREATED, child, worker

START = "2026-01-05T00:00:10Z"
LATER = "2026-01-05T00:05:00Z"


def observed(*, node: str = "node-1", sidecars: tuple[str, ...] = (), **status: Any) -> ObservedPod:
    """A pod as observed, with this status."""
    init = [{"name": name, "restartPolicy": "Always"} for name in sidecars]
    return observe_pod(
        {
            "metadata": {"name": "pod-1", "creationTimestamp": "2026-01-05T00:00:01Z"},
            "spec": {"initContainers": init, **({"nodeName": node} if node else {})},
            "status": {"phase": "Pending", **status},
        }
    )


def container(name: str = "worker", **state: Any) -> dict[str, Any]:
    """A container's status in one state."""
    return {"name": name, "state": state}


def waiting(name: str = "worker", reason: str = "ContainerCreating") -> dict[str, Any]:
    return container(name, waiting={"reason": reason})


DONE = container("certs", terminated={"exitCode": 0, "finishedAt": LATER})
PROXY = {**container("proxy", running={"startedAt": LATER}), "started": True}
INITIALIZING = [waiting(reason="PodInitializing")]


@pytest.mark.parametrize(
    ("pod", "state", "since", "of"),
    [
        pytest.param(
            observed(startTime=START, containerStatuses=[waiting()]), "ContainerCreating", START, "", id="no container"
        ),
        pytest.param(observed(startTime=START), "ContainerCreating", START, "", id="no status of a container"),
        pytest.param(observed(), "ContainerCreating", "2026-01-05T00:00:01Z", "", id="the kubelet says nothing"),
        pytest.param(
            observed(node=""), "no scheduler has assigned a node", "2026-01-05T00:00:01Z", "", id="no scheduler"
        ),
        pytest.param(
            observed(
                startTime=START,
                initContainerStatuses=[container("vault", running={"startedAt": LATER})],
                containerStatuses=INITIALIZING,
            ),
            "it has not finished",
            LATER,
            "init container vault",
            id="init container runs",
        ),
        pytest.param(
            observed(
                startTime=START,
                initContainerStatuses=[waiting("vault", "PodInitializing")],
                containerStatuses=INITIALIZING,
            ),
            "PodInitializing",
            START,
            "",
            id="init container waits",
        ),
        pytest.param(
            observed(
                startTime=START, sidecars=("proxy",), initContainerStatuses=[DONE, PROXY], containerStatuses=[waiting()]
            ),
            "ContainerCreating",
            LATER,
            "",
            id="after an init container and a sidecar",
        ),
        pytest.param(
            observed(
                startTime=START,
                sidecars=("proxy",),
                initContainerStatuses=[{**PROXY, "started": False}],
                containerStatuses=INITIALIZING,
            ),
            "it has not started",
            LATER,
            "init container proxy",
            id="sidecar hangs",
        ),
    ],
)
def test_state_of_a_start_is_observed_with_its_age(pod: ObservedPod, state: str, since: str, of: str) -> None:
    wait = pod.start_wait
    assert wait is not None
    assert (wait.state, wait.since, wait.container) == (state, since, of)
    assert pod.start_failure == ""


def test_pod_that_has_started_waits_for_nothing() -> None:
    assert observed(phase="Running", containerStatuses=[container(running={})]).start_wait is None


@pytest.mark.parametrize(
    ("status", "failure", "of"),
    [
        pytest.param(
            {"initContainerStatuses": [waiting("vault", "CrashLoopBackOff")], "containerStatuses": INITIALIZING},
            "CrashLoopBackOff",
            "init container vault",
            id="init container",
        ),
        pytest.param(
            {"containerStatuses": [container("worker", running={}), waiting("proxy", "ErrImagePull")]},
            "ErrImagePull",
            "container proxy",
            id="injected container",
        ),
        pytest.param({"containerStatuses": [waiting("worker", "ErrImagePull")]}, "ErrImagePull", "", id="worker"),
    ],
)
def test_failing_container_is_named_unless_it_is_the_worker(status: dict[str, Any], failure: str, of: str) -> None:
    pod = observed(**status)
    assert (pod.start_failure, pod.failed_container) == (failure, of)


def stuck(seconds: float, state: str = "ContainerCreating", of: str = "") -> ObservedWorker:
    """A worker whose pod has been in this state for some seconds."""
    wait = StartWait(state, START, CREATED - seconds, of)
    return worker(running=False, ready=False, start_wait=wait)


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        pytest.param(
            stuck(STUCK_SECONDS),
            f"Workers cannot start: pod pod-1: ContainerCreating since {START}. Check the pod: kubectl describe pod "
            "pod-1 -n shop",
            id="a container that is not created",
        ),
        pytest.param(
            stuck(STUCK_SECONDS, "it has not finished", "init container vault"),
            f"Workers cannot start: pod pod-1, init container vault: it has not finished since {START}. Check its log: "
            "kubectl logs pod-1 -n shop -c vault",
            id="an init container that hangs",
        ),
        pytest.param(
            worker(start_failure="CrashLoopBackOff: back-off 20s", failed_container="init container vault"),
            "Workers cannot start: pod pod-1, init container vault: CrashLoopBackOff: back-off 20s. Check the log: "
            "kubectl logs pod-1 -n shop -c vault --previous",
            id="an init container that fails",
        ),
        pytest.param(
            worker(start_failure="ErrImagePull: denied", failed_container="container proxy"),
            "Workers cannot start: pod pod-1, container proxy: ErrImagePull: denied. Check the pod: kubectl describe "
            "pod pod-1 -n shop",
            id="the image of an injected container",
        ),
        pytest.param(stuck(STUCK_SECONDS - 1), "", id="a start of normal length"),
        pytest.param(worker(), "", id="a pod that runs"),
        pytest.param(worker(terminating=True, start_failure="ErrImagePull"), "", id="a pod that is deleted"),
    ],
)
def test_cause_is_told_with_the_command(seen: ObservedWorker, message: str) -> None:
    assert why_not_starting("shop", start_problems([seen], CREATED), None) == message


def test_deployment_that_cannot_create_pods_is_told() -> None:
    seen = ObservedDeployment(child(), 1, "template-1", create_failure="FailedCreate: exceeded quota")
    assert why_not_starting("shop", [], seen).startswith("Workers cannot start: FailedCreate: exceeded quota. ")


def test_next_problem_is_due_when_a_start_takes_too_long() -> None:
    assert next_problem_in([worker()], CREATED) is None
    assert next_problem_in([stuck(20), stuck(50), stuck(900), worker()], CREATED) == STUCK_SECONDS - 50
