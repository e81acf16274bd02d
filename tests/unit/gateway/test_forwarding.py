"""Requests that reach another gateway than the owner of their agent, over real connections."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from agentspec.wire import GatewayMember
from gateway.agents import Agent
from gateway.api import forwarding
from gateway.api.forwarding import CLIENT_ADDRESS, internal_session
from gateway.api.keys import ApiKeys
from gateway.calls.call import CallState
from gateway.calls.opening import OpenedCall
from gateway.cluster.members import owner_of
from gateway.cluster.peers import PATH, asking
from gateway.errors import moved
from gateway.livekit.connections import Connection
from tests.unit.gateway.conftest import API_KEY
from tests.unit.gateway.fakes import FakeLiveKit
from tests.unit.gateway.pairs import ORIGIN, SHARD, Instance, Pair
from tests.unit.gateway.scenes import BODY, KEYED, becomes_true, call_token_of

FARTHER = GatewayMember(
    name=next(name for name in map(str, range(100)) if owner_of(SHARD, ("a", "b", name)) == name), address="127.0.0.1:1"
)
"""A third gateway, which would own the agent."""


async def test_call_is_opened_read_and_ended_at_its_owner(pair: Pair) -> None:
    call = await pair.open_call()
    found = pair.owner.world.gateway.ledger.get(call["callId"])
    assert found is not None
    assert pair.other.world.gateway.ledger.get(call["callId"]) is None
    path, headers = f"/v1/calls/{call['callId']}", pair.headers() | call_token_of(call)
    response = await pair.http.get(path, params={"state": "dispatched", "waitSeconds": "10"}, headers=headers)
    assert (response.status_code, response.json()["state"]) == (200, "joined")
    response = await pair.http.delete(path, headers=headers)
    assert (response.status_code, response.json()["state"]) == (200, "ended")
    assert pair.other.count("answered") == 3
    response = await pair.http.get(path, headers=pair.headers())
    assert (response.status_code, response.json()["reason"]) == (404, "CallNotFound")


async def test_answer_and_request_pass_unchanged(pair: Pair) -> None:
    refused = await pair.http.post("/v1/calls", json=BODY | {"agent": "missing"}, headers=pair.headers())
    assert refused.status_code == 401
    elsewhere = await pair.http.post("/v1/calls", json=BODY, headers=pair.headers(Origin="https://evil.example"))
    assert elsewhere.status_code == 403
    assert elsewhere.headers["content-type"] == "application/problem+json"
    assert elsewhere.headers["cache-control"] == "no-store"
    equal = [await pair.http.post("/v1/calls", json=BODY, headers=pair.headers() | KEYED) for _ in range(2)]
    assert [response.status_code for response in equal] == [201, 200]
    assert len({response.json()["callId"] for response in equal}) == 1


async def test_room_of_another_program_gets_its_agent_from_the_owner(pair: Pair) -> None:
    await pair.owner.world.livekit.create_room("ornina-theirs", "", "none", "")
    body = {"room": "ornina-theirs", "agent": "ornina"}
    response = await pair.http.post("/api/dispatch-agent", json=body, headers=pair.headers())
    assert (response.status_code, response.json()["success"]) == (200, True)
    assert pair.other.count("answered") == 1


async def test_address_of_the_caller_is_forwarded_and_believed_between_gateways_only(pair: Pair) -> None:
    forged = {CLIENT_ADDRESS: "198.51.100.1"}
    call = await pair.open_call(**forged)
    found = pair.owner.world.gateway.ledger.get(call["callId"])
    assert found is not None
    assert found.client.address == "127.0.0.1"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{pair.owner.internal_port}") as internal:
        response = await internal.post("/v1/calls", json=BODY, headers=pair.headers() | forged)
    found = pair.owner.world.gateway.ledger.get(response.json()["callId"])
    assert found is not None
    assert found.client.address == "198.51.100.1"


async def test_request_is_never_forwarded_twice(pair: Pair) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{pair.other.internal_port}") as internal:
        response = await internal.post("/v1/calls", json=BODY, headers=pair.headers())
    assert (response.status_code, response.json()["reason"]) == (421, "OwnerUnreachable")
    assert pair.owner.world.livekit.launches == []


async def test_gateways_tell_each_other_what_they_know_on_the_internal_port_only(pair: Pair) -> None:
    async with aiohttp.ClientSession() as session:
        view = await asking(session, "a")(pair.owner.members.me)
    assert view.gateways == {"a", "b"}
    assert (await pair.http.get(PATH)).status_code == 404


async def test_forwarded_request_is_measured_once(pair: Pair) -> None:
    await pair.open_call()
    labels = {"route": "/v1/calls", "method": "POST", "code": "201"}
    name = "avatar_agent_gateway_http_request_duration_seconds_count"
    counts = [one.world.gateway.metrics.registry.get_sample_value(name, labels) for one in (pair.other, pair.owner)]
    assert counts == [1, None]


@asynccontextmanager
async def single(address: str, **attributes: Any) -> AsyncIterator[tuple[Instance, httpx.AsyncClient]]:
    """A gateway that knows an owner of the agent at an address."""
    async with internal_session() as session:
        livekit = FakeLiveKit()
        instance = Instance("me", livekit, session)
        name = next(name for name in map(str, range(100)) if owner_of(SHARD, ("me", name)) == name)
        owner = GatewayMember(name=name, address=address)
        instance.members.received([instance.members.me, owner], time.monotonic())
        instance.members._active_from = 0.0
        assert instance.members.owner(SHARD) == owner
        async with instance.serving(), httpx.AsyncClient(base_url=f"http://127.0.0.1:{instance.port}") as http:
            yield instance, http


async def test_owner_that_refuses_is_passed_over_and_the_call_opened(keep_in_touch: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    async with single(address) as (instance, http):
        response = await http.post("/v1/calls", json=BODY, headers={"Origin": ORIGIN, "Host": "gateway.example"})
        assert response.status_code == 201
        assert instance.count("refused") == 1
        call = instance.world.gateway.ledger.get(response.json()["callId"])
        assert call is not None
        await becomes_true(lambda: instance.world.gateway.ledger.get(call.id).state is CallState.JOINED)  # type: ignore[union-attr]


async def test_forwarded_request_waits_at_its_owner_until_that_may_act(pair: Pair) -> None:
    pair.owner.members._active_from = time.monotonic() + 3600
    opening = asyncio.create_task(pair.open_call())
    await asyncio.sleep(0.5)
    assert not opening.done()
    pair.owner.members._active_from = 0.0
    call = await opening
    assert pair.owner.world.gateway.ledger.get(call["callId"]) is not None
    assert pair.other.count("moved") == 0, "it was sent once"
    assert pair.other.count("answered") == 1


async def test_misdirected_request_is_asked_less_and_less_often_and_not_audited(
    pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "FORWARD_SECONDS", 3.0)
    caplog.set_level("INFO")
    pair.owner.members.received([pair.owner.members.me, pair.other.members.me, FARTHER], time.monotonic())
    response = await pair.http.post("/v1/calls", json=BODY, headers=pair.headers())
    assert (response.status_code, response.json()["reason"]) == (503, "OwnerUnreachable")
    assert 2 <= pair.other.count("moved") <= 10
    assert [record.message for record in caplog.records].count("call refused") == 1


async def test_next_owner_learns_which_gateway_refused_the_connection(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    name = FARTHER.name
    for one in (pair.owner, pair.other):
        one.members.received(
            [pair.owner.members.me, pair.other.members.me, GatewayMember(name=name, address=address)], 0
        )
        one.members.received(one.members.known, time.monotonic())
        one.members._active_from = 0.0
    call = await pair.open_call()
    assert pair.owner.world.gateway.ledger.get(call["callId"]) is not None
    assert pair.owner.members.passed_over == (name,)
    assert pair.other.count("refused") == 1
    assert pair.other.count("moved") == 0


async def test_owner_that_hangs_is_left_when_it_is_dropped(keep_in_touch: None) -> None:
    """The process is frozen: the kernel accepts the connection, and nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        async with single(f"127.0.0.1:{frozen.getsockname()[1]}") as (instance, http):
            asking = asyncio.create_task(
                http.post("/v1/calls", json=BODY, headers={"Origin": ORIGIN, "Host": "gateway.example"}, timeout=20)
            )
            frozen.setblocking(False)
            accepted, _ = await asyncio.get_running_loop().sock_accept(frozen)
            refreshed = asyncio.Event()
            instance.members.on_doubt = refreshed.set
            await asyncio.wait_for(refreshed.wait(), 20)
            assert not asking.done()
            instance.members.received([instance.members.me], time.monotonic())
            response = await asking
            accepted.close()
            assert response.status_code == 201
            assert instance.count("moved") == 1
            assert len(instance.world.livekit.launches) == 1


async def test_owner_that_ends_connections_gets_503_in_bounded_time(
    keep_in_touch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "FORWARD_SECONDS", 0.3)

    async def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(end, "127.0.0.1", 0)
    async with server, single(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as (instance, http):
        response = await http.post("/v1/calls", json=BODY, headers={"Origin": ORIGIN, "Host": "gateway.example"})
        assert (response.status_code, response.json()["reason"]) == (503, "OwnerUnreachable")
        assert response.headers["retry-after"] == "1"
        assert instance.count("failed") == 1
        assert instance.world.livekit.launches == []


@asynccontextmanager
async def owner_that_answers(*parts: bytes, lost: asyncio.Event | None = None) -> AsyncIterator[str]:
    """Answer each request with these bytes, and then end the connection; with ``lost``, once it is set."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        for part in parts:
            writer.write(part)
        await writer.drain()
        if lost is not None:
            await lost.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_answer_that_breaks_off_does_not_reach_the_client(
    keep_in_touch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "FORWARD_SECONDS", 0.3)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    async with owner_that_answers(head, b'{"callId"') as address, single(address) as (instance, http):
        response = await http.get(f"/v1/calls/{SHARD}0123")
        assert (response.status_code, response.json()["reason"]) == (503, "OwnerUnreachable")
        assert instance.count("unreachable") >= 2, "the owner was asked again"


async def test_stream_of_a_lost_owner_ends(keep_in_touch: None, caplog: pytest.LogCaptureFixture) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    lost = asyncio.Event()
    async with (
        owner_that_answers(head, b"7\r\n: one\n\n\r\n", lost=lost) as address,
        single(address) as (_, http),
        http.stream("GET", f"/v1/calls/{SHARD}0123/events") as events,
    ):
        lines = events.aiter_lines()
        assert await anext(lines) == ": one"
        lost.set()
        assert not any([line async for line in lines])
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_fenced_owner_opens_no_call(monkeypatch: pytest.MonkeyPatch, keep_in_touch: None) -> None:
    monkeypatch.setattr(forwarding, "FORWARD_SECONDS", 0.3)
    async with single("127.0.0.1:1") as (instance, http):
        instance.members.received([instance.members.me], time.monotonic())
        monkeypatch.setattr("gateway.cluster.members.FENCE_SECONDS", 0.0)
        response = await http.post("/v1/calls", json=BODY, headers={"Origin": ORIGIN, "Host": "gateway.example"})
        assert (response.status_code, response.json()["reason"]) == (503, "OwnerUnreachable")
        assert instance.world.livekit.launches == []


async def test_owner_that_may_not_act_for_a_moment_opens_the_call_after_it(
    monkeypatch: pytest.MonkeyPatch, keep_in_touch: None
) -> None:
    async with single("127.0.0.1:1") as (instance, http):
        instance.members.received([instance.members.me], time.monotonic())
        opener = instance.world.gateway.opener
        opens, attempts = opener.open, list[Any]()

        async def open_second(*wanted: Any, **options: Any) -> OpenedCall:
            attempts.append(wanted)
            if len(attempts) == 1:
                raise moved()
            return await opens(*wanted, **options)

        monkeypatch.setattr(opener, "open", open_second)
        response = await http.post("/v1/calls", json=BODY, headers={"Origin": ORIGIN, "Host": "gateway.example"})
        assert (response.status_code, len(attempts)) == (201, 2)
        assert len(instance.world.livekit.launches) == 1


async def test_dispatch_whose_agent_moves_meanwhile_is_made_by_its_new_owner(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.owner.world.livekit.create_room("ornina-theirs", "", "none", "")

    async def moves(*wanted: Any) -> str:
        pair.other.members.received([pair.owner.members.me], time.monotonic())
        pair.owner.members.received([pair.owner.members.me], time.monotonic())
        raise moved()

    pair.owner.members.received([pair.other.members.me], time.monotonic())
    pair.other.members.received([pair.other.members.me], time.monotonic())
    pair.other.members._active_from = pair.owner.members._active_from = 0.0
    monkeypatch.setattr(pair.other.world.gateway.rooms, "dispatch", moves)
    body = {"room": "ornina-theirs", "agent": "ornina"}
    response = await pair.http.post("/api/dispatch-agent", json=body, headers=pair.headers())
    assert (response.status_code, response.json()["success"]) == (200, True)
    assert [call.room for call in pair.owner.world.gateway.ledger] == ["ornina-theirs"]


async def test_events_of_a_call_come_from_its_owner_until_the_gateway_stops(pair: Pair) -> None:
    call = await pair.open_call()
    path, headers = f"/v1/calls/{call['callId']}/events", pair.headers() | call_token_of(call)
    async with pair.http.stream("GET", path, headers=headers) as events:
        lines = events.aiter_lines()
        states = []
        while "joined" not in states:
            line = await anext(lines)
            if line.startswith("data: "):
                states.append(json.loads(line.removeprefix("data: "))["state"])
        pair.other.world.gateway.closing.set()
        assert [line async for line in lines if line] == [], "the stream ends"
    assert states[-1] == "joined"


async def test_forwarded_request_that_waits_is_answered_when_the_gateway_stops(pair: Pair) -> None:
    call = await pair.open_call()
    gateway = pair.owner.world.gateway
    await becomes_true(lambda: (found := gateway.ledger.get(call["callId"])) and found.state is CallState.JOINED)
    query = {"state": "joined", "waitSeconds": "30"}
    headers = pair.headers() | call_token_of(call)
    waiting = asyncio.create_task(pair.http.get(f"/v1/calls/{call['callId']}", params=query, headers=headers))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    pair.other.world.gateway.closing.set()
    assert (await asyncio.wait_for(waiting, 20)).json()["state"] == "joined"
    for found in gateway.ledger:
        await gateway.dispatcher.hang_up(found)  # it ends the first request at the owner


async def test_list_has_the_calls_of_all_gateways(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "agents.site").write_text(API_KEY)
    for one in (pair.owner, pair.other):
        one.world.gateway.access._keys = ApiKeys(tmp_path)
    call = await pair.open_call()
    key = {"Authorization": f"Bearer {API_KEY}"}
    response = await pair.http.get("/v1/calls", headers=key)
    assert [found["callId"] for found in response.json()["calls"]] == [call["callId"]]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{pair.owner.port}") as http:
        response = await http.get("/v1/calls", headers=key)
    assert [found["callId"] for found in response.json()["calls"]] == [call["callId"]]


async def test_list_leaves_out_a_gateway_that_is_gone(keep_in_touch: None, tmp_path: Path) -> None:
    (tmp_path / "agents.site").write_text(API_KEY)
    async with single("127.0.0.1:1") as (instance, http):
        instance.world.gateway.access._keys = ApiKeys(tmp_path)
        response = await http.get("/v1/calls", headers={"Authorization": f"Bearer {API_KEY}"})
    assert response.json() == {"calls": []}


async def test_stream_ends_when_another_gateway_owns_the_call(pair: Pair) -> None:
    call = await pair.open_call()
    path, headers = f"/v1/calls/{call['callId']}/events", pair.headers() | call_token_of(call)
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{pair.owner.port}", timeout=20) as http,
        http.stream("GET", path, headers=headers) as events,
    ):
        lines = events.aiter_lines()
        await anext(lines)
        pair.owner.members.leave()
        assert [line async for line in lines][-1] == ""


async def test_request_whose_agent_moves_meanwhile_is_answered_by_the_new_owner(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = pair.owner.world.gateway.opener
    connect = opener.connect

    async def connect_late(agent: Agent) -> Connection:
        pair.owner.members.leave()
        pair.other.members.received([pair.other.members.me], time.monotonic())
        return await connect(agent)

    monkeypatch.setattr(opener, "connect", connect_late)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{pair.owner.port}", timeout=20) as http:
        response = await http.post("/v1/calls", json=BODY, headers=pair.headers())
    assert response.status_code == 201, response.text
    assert pair.other.world.gateway.ledger.get(response.json()["callId"]) is not None
    assert len(pair.owner.world.livekit.launches) == 1


async def test_gateway_that_leaves_forwards_new_calls(pair: Pair) -> None:
    call = await pair.open_call()
    gateway = pair.owner.world.gateway
    waiting = asyncio.create_task(
        pair.http.get(
            f"/v1/calls/{call['callId']}",
            params={"state": "joined", "waitSeconds": "20"},
            headers=pair.headers() | call_token_of(call),
        )
    )
    await becomes_true(lambda: (found := gateway.ledger.get(call["callId"])) and found.state is CallState.JOINED)
    await asyncio.sleep(0.1)
    assert pair.owner.members.leave()
    assert (await waiting).status_code == 200, "a request that waits is answered at once"
    assert list(gateway.ledger) == []
    pair.other.members.received([pair.other.members.me], time.monotonic())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{pair.owner.port}", timeout=20) as http:
        response = await http.post("/v1/calls", json=BODY, headers=pair.headers())
    assert response.status_code == 201
    assert pair.other.world.gateway.ledger.get(response.json()["callId"]) is not None
