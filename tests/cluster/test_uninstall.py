"""Agents, controller, CRD and namespace can be removed in any order, and nothing blocks forever."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from devkit.cluster import Cluster
from kube.client import ApiError, KubeClient
from kube.kinds import AVATAR_AGENT
from tests.cluster.background import Stage
from tests.cluster.instance import RELEASE_NAMESPACE, REPOSITORY, controller_kubeconfig, kubectl
from tests.cluster.restarts import restarted
from tests.cluster.standin import Worker
from tests.cluster.world import GONE_SECONDS, NAMESPACE, World, administrator, delete_namespace, open_world
from tests.waiting import eventually


async def uninstalled(stage: Stage) -> None:
    """Remove installations in several orders."""
    async with stage.cluster() as (cluster, kubeconfig):
        await _namespace_first(stage, cluster, kubeconfig)
        await _controller_first(stage, cluster, kubeconfig)
        await _definition_first(stage, cluster, kubeconfig)


@pytest.mark.timeout(900)
@pytest.mark.background.with_args(uninstalled)
def test_installation_can_be_removed_in_any_order(outcome: Callable[[float], None]) -> None:
    outcome(800)


async def _namespace_first(stage: Stage, cluster: Cluster, kubeconfig: Path) -> None:
    """Delete a namespace while the controller runs; a call is finished first."""
    async with (
        open_world(cluster, stage.openai, "first") as world,
        restarted(kubeconfig, _folder(stage, "first"), "") as controller,
    ):
        (worker,) = await world.running("ava")
        await world.running("eva")
        worker.calls = 1
        await delete_namespace(world.client, world.namespace)
        # Kubernetes takes the pods first, and all else when they are gone.
        await eventually(lambda: _alone(world, worker), "only the draining worker is left", GONE_SECONDS)
        worker.calls = 0
        await _namespace_gone(world)
        assert len(controller.starts) == 1
        assert controller.unexpected() == []


async def _controller_first(stage: Stage, cluster: Cluster, kubeconfig: Path) -> None:
    """Remove controller and rights; then an agent, then its namespace."""
    async with open_world(cluster, stage.openai, "second") as world:
        async with restarted(kubeconfig, _folder(stage, "second"), ""):
            await world.running("ava")
            await world.running("eva")
        await asyncio.to_thread(kubectl, cluster, "delete", "namespace", RELEASE_NAMESPACE, "--wait=false")
        for kind in ("clusterrolebinding", "clusterrole"):
            selector = "app.kubernetes.io/name=avatar-agent"
            await asyncio.to_thread(kubectl, cluster, "delete", kind, f"--selector={selector}")
        await world.remove(AVATAR_AGENT, "ava")
        await eventually(lambda: world.nothing_of("ava"), "the agent's children are gone", GONE_SECONDS)
        assert len(world.standin.of("eva")) == 1, "the other agent's worker stays"
        await delete_namespace(world.client, world.namespace)
        await _namespace_gone(world)


async def _definition_first(stage: Stage, cluster: Cluster, kubeconfig: Path) -> None:
    """Remove the CRD and with it every agent while the controller runs, then install it again.

    The controller ends when it notices, and waits for the CRD after the restart.
    """
    await _namespace_can_be_made_again(cluster)
    kubeconfig = await asyncio.to_thread(controller_kubeconfig, cluster, kubeconfig.parent)

    async def controller_restarted() -> bool:
        return len(controller.starts) == 2

    async with (
        open_world(cluster, stage.openai, "third") as world,
        restarted(kubeconfig, _folder(stage, "third"), "") as controller,
    ):
        await world.running("ava")
        await asyncio.to_thread(kubectl, cluster, "delete", "-f", str(REPOSITORY / "crds"), "--wait=true")
        await eventually(lambda: world.nothing_of("ava"), "the agent's children are gone", GONE_SECONDS)
        await eventually(controller_restarted, "the controller waits for the CRD", GONE_SECONDS)
        await asyncio.to_thread(kubectl, cluster, "apply", "-f", str(REPOSITORY / "crds"))
        await _established(world)
        await world.declare("eva")
        await world.becomes("eva", "True", seconds=GONE_SECONDS)
        assert [start.process.poll() for start in controller.starts] == [0, None]
        assert controller.unexpected() == []


def _folder(stage: Stage, name: str) -> Path:
    folder = stage.folder / name
    folder.mkdir()
    return folder


async def _alone(world: World, worker: Worker) -> bool:
    return worker.draining and world.standin.is_in_call(worker) and len(world.standin.workers) == 1


async def _namespace_gone(world: World) -> None:
    await _gone(world.client, world.namespace)


async def _namespace_can_be_made_again(cluster: Cluster) -> None:
    async with administrator(cluster.kubeconfig) as client:
        await _gone(client, RELEASE_NAMESPACE)
        await client.create(NAMESPACE, None, {"metadata": {"name": RELEASE_NAMESPACE}})


async def _gone(client: KubeClient, namespace: str) -> None:
    async def gone() -> bool:
        found = await client.list(NAMESPACE, None)
        return namespace not in {document["metadata"]["name"] for document in found}

    await eventually(gone, f"the namespace {namespace} is gone", GONE_SECONDS)


async def _established(world: World) -> None:
    async def serves() -> bool:
        try:
            await world.client.list(AVATAR_AGENT, world.namespace)
        except ApiError:
            return False
        return True

    await eventually(serves, "AvatarAgents are served again")
