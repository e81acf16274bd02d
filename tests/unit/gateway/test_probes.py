"""What the cluster asks a gateway on its own port."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.calls import CallState
from gateway.probes import probe_app
from tests.unit.gateway.fakes import World
from tests.unit.gateway.test_dispatcher import opened, reaches


@pytest.fixture
async def cluster(there: World) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with TestClient(TestServer(probe_app(there.agents, there.gateway.metrics))) as client:
        yield client


async def test_ready_once_the_agents_are_known(cluster: TestClient[web.Request, web.Application], there: World) -> None:
    there.agents.is_synced = False
    assert [(await cluster.get(path)).status for path in ("/livez", "/readyz")] == [200, 503]
    there.agents.is_synced = True
    assert (await cluster.get("/readyz")).status == 200


async def test_a_call_is_counted(cluster: TestClient[web.Request, web.Application], there: World) -> None:
    await reaches(there, await opened(there), CallState.JOINED)
    metrics = await (await cluster.get("/metrics")).text()
    labels = 'agent="ornina",agent_namespace="agents"'
    assert f'avatar_agent_gateway_calls_total{{{labels},outcome="joined",reason=""}} 1.0' in metrics
    assert f"avatar_agent_gateway_join_seconds_count{{{labels}}} 1.0" in metrics
    assert f'avatar_agent_gateway_dispatches_total{{{labels},cause="First"}} 1.0' in metrics
    assert f"avatar_agent_gateway_calls_pending{{{labels}}} 0.0" in metrics
