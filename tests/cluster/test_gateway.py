"""The gateway's directory and Secret reads on a real API server, with exactly the rights that the chart gives it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gateway.agents import Agent
from gateway.cluster.resources import FIELD_MANAGER, ClusterAgents, ClusterSecrets
from gateway.livekit.connections import SecretError
from kube.client import KubeClient, connect
from kube.kinds import AVATAR_AGENT
from tests.cluster.instance import account_kubeconfig, controller_rights, kubectl
from tests.cluster.proxy import Proxy, proxied
from tests.cluster.world import World
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)

RELEASE = "gateway-rights"


@dataclass(frozen=True)
class RunningGateway:
    """The parts of a gateway that use the API server, behind a proxy that records their requests."""

    client: KubeClient
    agents: ClusterAgents
    proxy: Proxy

    async def has(self, namespace: str, *names: str) -> bool:
        return {agent.name for agent in self.agents.all() if agent.namespace == namespace} == set(names)

    def statuses(self, path: str) -> set[int]:
        return {exchange.status for exchange in self.proxy.exchanges if path in exchange.path}


@pytest.fixture
async def gateway(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningGateway]:
    """A gateway that was installed for the test's namespace alone."""
    rights = controller_rights(world.cluster, f"watchNamespace={world.namespace}", name=RELEASE)
    kubectl(world.cluster, "apply", "-f", "-", stdin=yaml.safe_dump_all(rights))
    own = account_kubeconfig(world.cluster, f"{RELEASE}-gateway", tmp_path)
    async with proxied(own, tmp_path / "proxy") as (proxy, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        async with connect(FIELD_MANAGER) as client:
            agents = ClusterAgents(client, world.namespace)
            task = asyncio.create_task(agents.run())
            try:
                await asyncio.wait_for(agents.wait_synced(), 30)
                yield RunningGateway(client, agents, proxy)
            finally:
                task.cancel()
                await asyncio.wait([task])


async def test_directory_follows_agents_through_broken_watches(world: World, gateway: RunningGateway) -> None:
    await world.declare("ava")
    await eventually(lambda: gateway.has(world.namespace, "ava"), "the new agent is in the directory")
    assert isinstance(gateway.agents.get(world.namespace, "ava"), Agent)
    gateway.proxy.cut_watches()
    await world.declare("eva")
    await world.remove(AVATAR_AGENT, "ava")
    gateway.proxy.allow_watches()
    await eventually(lambda: gateway.has(world.namespace, "eva"), "changes during the cut are in the directory")
    paths = [exchange.path for exchange in gateway.proxy.exchanges]
    assert len(paths) >= 3, "a list, and a watch before and after the cut"
    assert gateway.statuses("avataragents") == {200}, "the rights suffice"


async def test_secrets_are_read_by_name_and_errors_are_told_apart(world: World, gateway: RunningGateway) -> None:
    secrets = ClusterSecrets(gateway.client)
    values = await secrets.read(world.namespace, "livekit", ["apiKey", "apiSecret"])
    assert values == {"apiKey": world.cluster.livekit_api_key, "apiSecret": world.cluster.livekit_api_secret}
    with pytest.raises(SecretError, match="does not exist"):
        await secrets.read(world.namespace, "missing", ["apiKey"])
    with pytest.raises(SecretError, match="may not read"):
        await secrets.read("default", "livekit", ["apiKey"])
    assert gateway.statuses("/secrets/") == {200, 403, 404}
