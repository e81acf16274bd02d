"""The stand-in cuts calls where a kubelet would, so tests that assert that no call is cut can fail.

Kubernetes does not overrule what the stand-in reports.
"""

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest

from agentspec.names import AGENT_LABEL
from devkit.cluster import Cluster
from kube.client import ApiError, KubeClient
from kube.kinds import DEPLOYMENT, POD, REPLICA_SET, Kind
from tests.cluster.openai import OpenAI
from tests.cluster.process import RunningController
from tests.cluster.standin import CutCalls, Worker, bind
from tests.cluster.world import World, administrator, open_world
from tests.waiting import eventually

LONG_GRACE_SECONDS = 4000
"""Longer than a call may last."""
LOST_NODE = "lost"
NODES = Kind("v1", "Node", "nodes")
NODE_MONITOR_SECONDS = 5
"""Period in which Kubernetes checks nodes (kube-controller-manager, `--node-monitor-period`)."""


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


async def report(client: KubeClient, path: str, **condition: str) -> None:
    """Set an object's condition Ready, as a kubelet does."""
    status = {"conditions": [{"type": "Ready", "lastTransitionTime": f"{datetime.now(UTC):%FT%TZ}", **condition}]}
    merge = "application/merge-patch+json"
    await client._request("PATCH", f"{path}/status", None, {"status": status}, content_type=merge)


async def test_ready_pod_stays_ready_where_no_kubelet_reports(cluster: Cluster) -> None:
    """The pod is Ready before it is bound, because a busy controller manager observes both at once."""
    namespace, labels = "default", {"test": LOST_NODE}
    container = {"name": "worker", "image": "worker.example/image"}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}
    # Kubernetes counts whole seconds.
    spec = {"minReadySeconds": NODE_MONITOR_SECONDS + 2, "selector": {"matchLabels": labels}, "template": template}

    async with administrator(cluster.kubeconfig) as client:

        async def pods() -> list[dict[str, Any]]:
            return await client.list(POD, namespace, f"test={LOST_NODE}")

        async def has_been_ready() -> bool:
            """Whether the pod has been ready for `minReadySeconds`."""
            found = await client.get(REPLICA_SET, namespace, LOST_NODE)
            return found is not None and found["status"].get("availableReplicas") == 1

        async def is_unready() -> bool:
            return not await has_been_ready()

        await client.create(NODES, None, {"metadata": {"name": LOST_NODE}})
        await report(client, NODES.path(None, LOST_NODE), status="Unknown", reason="NodeStatusNeverUpdated")
        await client.create(REPLICA_SET, namespace, {"metadata": {"name": LOST_NODE}, "spec": spec})
        try:
            (pod,) = await eventually(pods, "the pod is created")
            name = pod["metadata"]["name"]
            path = POD.path(namespace, name)
            await report(client, path, status="True")
            await eventually(has_been_ready, "Kubernetes has checked the node meanwhile")
            await report(client, path, status="False")
            await eventually(is_unready, "the pod is unready")
            await report(client, path, status="True")
            await bind(client, namespace, name, LOST_NODE)
            await eventually(has_been_ready, "the pod stays ready after it was bound")
        finally:
            await client.delete(REPLICA_SET, namespace, LOST_NODE)
            await client._request("DELETE", NODES.path(None, LOST_NODE))
