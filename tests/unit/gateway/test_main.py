"""The gateway's process: health and metrics on their own port, and invalid settings."""

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.__main__ import cluster_app, main
from gateway.calls import CallState
from tests.unit.gateway.fakes import World
from tests.unit.gateway.scenes import open_call, reaches


@pytest.fixture
async def cluster(world: World) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with TestClient(TestServer(cluster_app(world.agents, world.gateway.metrics))) as client:
        yield client


async def test_ready_once_agents_are_listed(cluster: TestClient[web.Request, web.Application], world: World) -> None:
    world.agents.is_synced = False
    assert [(await cluster.get(path)).status for path in ("/livez", "/readyz")] == [200, 503]
    assert await (await cluster.get("/readyz")).text() == "the AvatarAgents are not listed yet\n"
    world.agents.is_synced = True
    assert (await cluster.get("/readyz")).status == 200


async def test_metrics_count_a_joined_call(cluster: TestClient[web.Request, web.Application], world: World) -> None:
    await reaches(world, await open_call(world), CallState.JOINED)
    metrics = await (await cluster.get("/metrics")).text()
    labels = 'agent="ornina",agent_namespace="agents"'
    assert f'avatar_agent_gateway_calls_total{{{labels},outcome="joined",reason=""}} 1.0' in metrics
    assert f"avatar_agent_gateway_join_seconds_count{{{labels}}} 1.0" in metrics
    assert f'avatar_agent_gateway_dispatches_total{{{labels},cause="First"}} 1.0' in metrics
    assert f"avatar_agent_gateway_calls_pending{{{labels}}} 0.0" in metrics


@pytest.mark.usefixtures("restored_logging")
def test_invalid_settings_exit_with_2_and_one_log_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "http")
    assert main() == 2
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["message"]) == ("critical", "invalid settings")
    assert line["error"].startswith("PORT is 'http': set it to a whole number between 1 and 65535")
