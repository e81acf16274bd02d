"""The chart's rights for one namespace suffice there, and allow nothing elsewhere."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from kube.kinds import (
    AVATAR_AGENT,
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SERVICE_ACCOUNT,
)
from tests.cluster import manifests
from tests.cluster.instance import account_kubeconfig, controller_rights, kubectl
from tests.cluster.process import START_SECONDS, RunningController, launch
from tests.cluster.proxy import Proxy, proxied
from tests.cluster.world import GONE_SECONDS, World
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(240)

RELEASE = "single"
ACCOUNT = f"{RELEASE}-controller"
MANAGED = "app.kubernetes.io/managed-by=avatar-agent"
RESTORED = (DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE_ACCOUNT, NETWORK_POLICY)
"""Kinds of children that the test deletes and the controller restores."""


@pytest.fixture
def single_kubeconfig(world: World, tmp_path: Path) -> Path:
    """Credentials of a controller for the test's namespace."""
    rights = controller_rights(world.cluster, f"watchNamespace={world.namespace}", name=RELEASE)
    kubectl(world.cluster, "apply", "-f", "-", stdin=yaml.safe_dump_all(rights))
    return account_kubeconfig(world.cluster, ACCOUNT, tmp_path)


@pytest.fixture
async def single(
    world: World, single_kubeconfig: Path, tmp_path: Path
) -> AsyncIterator[tuple[RunningController, Proxy]]:
    """A controller for the test's namespace, behind a proxy."""
    async with proxied(single_kubeconfig, tmp_path / "proxy") as (proxy, kubeconfig):
        controller = launch(sys.executable, kubeconfig, tmp_path / "log", world.namespace, LEASE_NAME=ACCOUNT)
        try:
            await eventually(lambda: asyncio.to_thread(controller.leads), "it leads", START_SECONDS)
            yield controller, proxy
        finally:
            await asyncio.to_thread(controller.stop)  # it speaks to the proxy until its end


async def test_rights_suffice_for_the_whole_life_of_an_agent(
    world: World, single: tuple[RunningController, Proxy]
) -> None:
    controller, proxy = single
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "facts", **{"prices.md": "An hour is 500."}))
    await world.declare("ava", knowledge=[{"configMapRef": {"name": "facts"}}])
    await world.becomes("ava", "True")
    await world.declare("ava", scaling={"minWorkers": 2, "maxWorkers": 2})
    await eventually(lambda: _workers(world, 2), "the second worker runs")
    await world.declare("ava", persona={"instructions": "Speak like a pirate."})
    for kind in RESTORED:
        (name,) = [d["metadata"]["name"] for d in await world.client.list(kind, world.namespace, MANAGED)]
        await world.remove(kind, name)
    await eventually(lambda: _whole(world), "the deleted children are restored")
    await world.remove(AVATAR_AGENT, "ava")
    await eventually(world.nothing, "everything is gone", GONE_SECONDS)
    refused = {f"{done.method} {done.path}" for done in proxy.exchanges if done.status in (401, 403)}
    assert refused == set()
    assert controller.unexpected() == []


async def _workers(world: World, wanted: int) -> bool:
    return len(world.standin.of("ava")) == wanted


async def _whole(world: World) -> bool:
    return all([await world.client.list(kind, world.namespace, MANAGED) for kind in RESTORED])


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "patch", "delete"])
def test_controller_has_no_rights_in_other_namespaces(world: World, single_kubeconfig: Path, verb: str) -> None:
    kinds = ["avataragents", "secrets", "configmaps", "serviceaccounts", "pods", "deployments", "leases", "roles"]
    for kind in kinds:
        asked = [str(world.cluster.kubectl), f"--kubeconfig={single_kubeconfig}", "-n", "default", "auth", "can-i"]
        answer = subprocess.run([*asked, verb, kind], capture_output=True, text=True, timeout=30)
        assert answer.stdout.strip() == "no", f"{verb} {kind}"
