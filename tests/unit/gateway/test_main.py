"""The gateway's process: health and metrics on their own port, and invalid settings."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agentspec.wire import GatewayMember
from gateway import __main__ as process
from gateway.__main__ import _Server, cluster_app, main
from gateway.api.app import create_app
from gateway.calls.call import CallState
from gateway.cluster.members import Members
from gateway.cluster.supply import SupplyExchange
from gateway.livekit.tokens import call_token
from gateway.settings import GatewaySettings
from tests.ports import free_port
from tests.unit.gateway.fakes import CREDENTIALS, World, create_world
from tests.unit.gateway.replicas import now
from tests.unit.gateway.scenes import open_call, reaches
from tests.waiting import soon


@pytest.fixture
async def cluster(world: World) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with TestClient(TestServer(cluster_app(world.gateway))) as client:
        yield client


async def test_ready_once_agents_are_listed(cluster: TestClient[web.Request, web.Application], world: World) -> None:
    world.agents.is_synced = False
    assert [(await cluster.get(path)).status for path in ("/livez", "/readyz")] == [200, 503]
    assert await (await cluster.get("/readyz")).text() == "the AvatarAgents are not listed yet\n"
    world.agents.is_synced = True
    assert (await cluster.get("/readyz")).status == 200


async def test_gateway_with_others_is_ready_once_the_controller_has_listed_them() -> None:
    members = Members("a", "10.0.0.1:8082")
    world = create_world(members=members)
    async with TestClient(TestServer(cluster_app(world.gateway))) as cluster:
        for answered in ("nothing", "a refusal", "a new leader's supply"):
            match answered:
                case "a refusal":
                    members.completed(time.monotonic())
                case "a new leader's supply":
                    members.received(None, time.monotonic())
            answer = await cluster.get("/readyz")
            expected = (503, "the controller has not listed the gateways yet\n")
            assert (answer.status, await answer.text()) == expected, answered
        members.received([members.me], time.monotonic())
        assert (await cluster.get("/readyz")).status == 200
    await world.gateway.dispatcher.stop()


async def test_metrics_count_a_joined_call(cluster: TestClient[web.Request, web.Application], world: World) -> None:
    await reaches(world, await open_call(world), CallState.JOINED)
    metrics = await (await cluster.get("/metrics")).text()
    labels = 'agent="ornina",agent_namespace="agents"'
    assert f"avatar_agent_gateway_calls_opened_total{{{labels}}} 1.0" in metrics
    assert f'avatar_agent_gateway_calls{{{labels},state="joined"}} 1.0' in metrics
    assert f"avatar_agent_gateway_join_duration_seconds_count{{{labels}}} 1.0" in metrics
    assert f'avatar_agent_gateway_dispatches_total{{{labels},cause="First"}} 1.0' in metrics
    assert f'avatar_agent_gateway_calls{{{labels},state="waiting"}} 0.0' in metrics


@pytest.mark.usefixtures("restored_logging")
def test_invalid_settings_exit_with_2_and_one_log_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "http")
    assert main() == 2
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["message"]) == ("critical", "invalid settings")
    assert line["error"].startswith("PORT is 'http': set it to a whole number between 1 and 65535")


@pytest.mark.usefixtures("restored_logging")
def test_failed_start_exits_with_1_and_one_log_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(_: GatewaySettings) -> None:
        raise OSError("address already in use")

    monkeypatch.setattr(process, "serve", fail)
    assert main() == 1
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["message"]) == ("error", "gateway failed")
    assert line["exception"].endswith("OSError: address already in use")


async def test_failed_background_task_stops_the_gateway_with_status_1(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, cancelled = uvicorn.Server(uvicorn.Config(app="unused", log_config=None)), asyncio.Event()

    async def serve_until_exit(_: uvicorn.Server, sockets: object) -> None:
        await soon(lambda: server.should_exit)

    async def run_until_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fail() -> None:
        raise ValueError("unexpected")

    monkeypatch.setattr(uvicorn.Server, "serve", serve_until_exit)
    with pytest.raises(SystemExit) as exited:
        await process._serve_with(server, [], (run_until_cancelled(), fail()))
    assert (exited.value.code, cancelled.is_set()) == (1, True)
    assert [record.message for record in caplog.records] == ["background task failed, stopping"]


async def test_stopping_server_ends_streams_of_events_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call = await reaches(world, await open_call(world), CallState.JOINED)
    port = free_port()
    config = uvicorn.Config(create_app(world.gateway), port=port, log_config=None, timeout_graceful_shutdown=60)
    handed_over = asyncio.Event()

    async def hand_over() -> None:
        assert not world.gateway.closing.is_set()
        handed_over.set()

    server = _Server(config, world.gateway.closing, hand_over)
    monkeypatch.setattr(server, "capture_signals", contextlib.nullcontext)
    serving = asyncio.create_task(server.serve())
    await soon(lambda: server.started)
    token = {"Authorization": f"Bearer {call_token(CREDENTIALS, call.id)}"}
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        session.get(f"/v1/calls/{call.id}/events", headers=token) as events,
    ):
        assert await events.content.readline() == b"event: call\n"
        server.should_exit = True
        rest = await asyncio.wait_for(events.content.read(), 30)
    assert json.loads(rest.decode().strip().removeprefix("data: "))["state"] == "joined"
    await asyncio.wait_for(serving, 30)
    assert handed_over.is_set()


class Exchange:
    """Counts exchanges with the controller."""

    def __init__(self) -> None:
        self.exchanges = 0

    async def exchange_now(self) -> None:
        self.exchanges += 1


@pytest.mark.usefixtures("virtual_clock")
async def test_gateway_that_stops_hands_its_calls_over_and_answers_for_a_while() -> None:
    members, exchange = Members("a", "10.0.0.1:8082", clock=now), Exchange()
    members.received([members.me], now())
    world = create_world(members=members)
    await open_call(world)
    members.received([members.me, GatewayMember(name="b", address="10.0.0.2:8082")], now())
    began = now()
    await process.hand_over(world.gateway, cast(SupplyExchange, exchange))
    assert (members.is_leaving, exchange.exchanges) == (True, 1)
    assert list(world.gateway.ledger) == []
    assert len(world.livekit.rooms_by_name) == 1, "the call goes on"
    assert now() - began == pytest.approx(process.HANDOVER_SECONDS)
    await world.gateway.dispatcher.stop()


@pytest.mark.usefixtures("virtual_clock")
async def test_only_gateway_stops_at_once(world: World) -> None:
    exchange, began = Exchange(), now()
    await process.hand_over(world.gateway, cast(SupplyExchange, exchange))
    assert (exchange.exchanges, now() - began) == (0, 0)


async def test_server_listens_for_gateways_only_where_it_has_an_address() -> None:
    port, internal = free_port(), free_port()
    settings = GatewaySettings(port=port, internal_port=internal)
    for configured, ports in (
        (settings, [port]),
        (settings.model_copy(update={"pod_ip": "10.0.0.1", "controller_url": "http://controller"}), [port, internal]),
    ):
        sockets = process.listen(configured)
        assert [one.getsockname()[1] for one in sockets] == ports
        for one in sockets:
            one.close()
