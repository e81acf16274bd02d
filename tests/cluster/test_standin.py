"""The stand-in cuts calls where a kubelet would, so tests that assert that no call is cut can fail."""

import secrets
from typing import Any

import pytest

from agentspec.names import AGENT_LABEL
from devkit.cluster import Cluster
from kube.client import ApiError
from kube.kinds import DEPLOYMENT, POD
from tests.cluster.openai import OpenAI
from tests.cluster.process import RunningController
from tests.cluster.standin import CutCalls, Worker
from tests.cluster.world import World, open_world
from tests.waiting import eventually

LONG_GRACE_SECONDS = 4000
"""Longer than a call may last."""


async def busy_pod(world: World, grace_seconds: int) -> Worker:
    """Create a pod whose worker has a call."""
    container = {"name": "worker", "image": "worker.example/image"}
    spec = {
        "containers": [container],
        "terminationGracePeriodSeconds": grace_seconds,
        "automountServiceAccountToken": False,
    }
    document: dict[str, Any] = {"metadata": {"name": "ava-1", "labels": {AGENT_LABEL: "ava"}}, "spec": spec}

    async def created() -> bool:
        try:
            await world.client.create(POD, world.namespace, document)
        except ApiError as error:
            if error.status != 403:  # the namespace's default ServiceAccount does not exist yet
                raise
            return False
        return True

    async def serves() -> list[Worker]:
        return world.standin.of("ava")

    await eventually(created, "the pod is admitted")
    (worker,) = await eventually(serves, "the worker serves")
    worker.calls = 1
    return worker


async def delete(world: World, worker: Worker, **options: object) -> None:
    await world.client._request(
        "DELETE", POD.path(world.namespace, worker.pod), {k: str(v) for k, v in options.items()}
    )


async def is_gone(world: World, worker: Worker) -> bool:
    return worker.pod not in world.standin.workers


async def test_deleted_pod_keeps_its_call_until_the_call_ends(world: World) -> None:
    worker = await busy_pod(world, LONG_GRACE_SECONDS)
    await delete(world, worker)
    await world.standin.sees_pods()
    assert worker.draining
    assert world.standin.is_in_call(worker)
    assert len(await world.pods("ava")) == 1
    worker.calls = 0
    await eventually(lambda: is_gone(world, worker), "the drained worker exits")
    assert world.standin.cut_calls == []


async def test_grace_period_shorter_than_a_call_cuts_the_call(world: World) -> None:
    worker = await busy_pod(world, 30)
    await delete(world, worker)
    await eventually(lambda: is_gone(world, worker), "the worker is killed")
    (cut,) = world.standin.cut_calls
    assert cut == CutCalls(worker.pod, 1, "the grace period of 30 s is shorter than a call may last")
    assert not world.standin.is_in_call(worker)
    world.standin.cut_calls.clear()


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
async def test_deletion_by_force_cuts_the_calls_of_a_busy_worker(world: World, busy: bool) -> None:
    worker = await busy_pod(world, LONG_GRACE_SECONDS)
    worker.calls = int(busy)
    await delete(world, worker, gracePeriodSeconds="0")
    await eventually(lambda: is_gone(world, worker), "the worker is killed")
    assert [cut.reason for cut in world.standin.cut_calls] == ["the pod was deleted by force"] * busy
    world.standin.cut_calls.clear()


async def test_cut_call_fails_the_test_that_uses_the_namespace(cluster: Cluster, openai: OpenAI) -> None:
    with pytest.raises(AssertionError, match="a kubelet would have cut these calls"):
        async with open_world(cluster, openai, f"test-{secrets.token_hex(3)}") as world:
            worker = await busy_pod(world, 30)
            await delete(world, worker)
            await eventually(lambda: is_gone(world, worker), "the worker is killed")


async def test_rollout_of_workers_with_a_short_grace_period_cuts_their_calls(
    world: World, controller: RunningController
) -> None:
    """Compare an agent's rollout with that of a Deployment with a short grace period, as a defect would create it."""
    (worker,) = await world.running("ava")
    deployment = await world.deployment("ava")
    assert deployment is not None
    template = deployment["spec"]["template"]
    template["metadata"]["labels"] = labels = {AGENT_LABEL: "defect"}
    template["spec"]["terminationGracePeriodSeconds"] = 30
    template["spec"].pop("serviceAccountName", None)
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    await world.client.create(DEPLOYMENT, world.namespace, {"metadata": {"name": "defect"}, "spec": spec})

    async def other() -> list[Worker]:
        return world.standin.of("defect")

    (old,) = await eventually(other, "the Deployment's worker serves")
    old.calls = worker.calls = 1
    template["metadata"]["annotations"] = {"example.com/version": "2"}
    await world.client.merge_patch(DEPLOYMENT, world.namespace, "defect", {"spec": {"template": template}})
    await world.declare("ava", persona={"greeting": "Hello"})
    await eventually(lambda: is_gone(world, old), "the old worker is killed")
    assert [cut.pod for cut in world.standin.cut_calls] == [old.pod]
    world.standin.cut_calls.clear()

    async def drains() -> bool:
        return worker.draining

    await eventually(drains, "the agent's own rollout drains its worker")
    await world.standin.sees_pods()
    assert world.standin.is_in_call(worker), "the controller's Deployment leaves a call the time that it may take"
