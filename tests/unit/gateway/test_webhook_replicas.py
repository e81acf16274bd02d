"""A webhook reaches any gateway, and the owners of the agents that it may be about hear of it."""

import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count as numbers

import pytest

from agentspec.wire import GatewayMember, render
from gateway.agents import Agent
from gateway.api import forwarding
from gateway.calls import watch
from gateway.calls.effects import record_of
from gateway.cluster.members import owner_of, shard_of
from tests.unit.gateway.fakes import example_agent
from tests.unit.gateway.pairs import SHARD, Instance, Pair
from tests.unit.gateway.scenes import JOINED, becomes_true
from tests.unit.gateway.test_webhooks import ROOM, body_of, count, post, signed

SERVER = example_agent().spec.livekit.url


@pytest.fixture
def rare_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no list of rooms come but the first, so that webhooks alone say what is new."""
    monkeypatch.setattr(watch, "IDLE_LIST_SECONDS", 1000.0)


def recorder(heard: list[str]) -> Callable[..., None]:
    """Return a replacement of `RoomWatch.hint` that records the rooms."""
    return lambda server, room, *, may_be_new: heard.append(room)


@pytest.fixture
def hints(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The rooms that each gateway got a hint about, by the gateway's name."""
    found: dict[str, list[str]] = {}
    for one in (pair.owner, pair.other):
        found[one.members.me.name] = []
        monkeypatch.setattr(one.world.gateway.watch, "hint", recorder(found[one.members.me.name]))
    return found


def agent_of(instance: Instance, known: list[str]) -> Agent:
    """Return another agent, which a gateway owns."""
    return next(
        agent
        for number in numbers()
        if owner_of(shard_of((agent := example_agent(f"agent-{number}")).key), tuple(known)) == instance.members.me.name
    )


async def test_owner_adopts_the_room_that_another_gateway_heard_of(pair: Pair, rare_lists: None) -> None:
    watches = [one.world.gateway.watch for one in (pair.owner, pair.other)]
    for one in watches:
        one.cover_declared()
    await becomes_true(lambda: all(one._servers[SERVER].connection for one in watches))
    await pair.owner.world.livekit.create_room(ROOM, "", "ornina-agent", "")
    for _ in range(2):
        assert (await post(pair.http, body_of())).status_code == 204
    await becomes_true(lambda: list(pair.owner.world.gateway.ledger))
    assert [call.room for call in pair.owner.world.gateway.ledger] == [ROOM]
    assert list(pair.other.world.gateway.ledger) == []
    assert pair.other.count("answered") == 2
    assert (count(pair.other.world, "room_started"), count(pair.owner.world, "room_started")) == (2, 0)
    assert pair.owner.world.livekit.launches == [(ROOM, "ornina-agent")]


async def test_event_goes_to_the_owners_of_the_servers_agents_only(pair: Pair, hints: dict[str, list[str]]) -> None:
    await post(pair.http, body_of(room="ornina-1"))
    assert hints == {pair.owner.members.me.name: ["ornina-1"], pair.other.members.me.name: []}
    names = [member.name for member in pair.other.members.known]
    second = agent_of(pair.other, names)
    pair.other.world.agents.listed.append(second)
    await post(pair.http, body_of(room="ornina-2"))
    assert hints == {pair.owner.members.me.name: ["ornina-1", "ornina-2"], pair.other.members.me.name: ["ornina-2"]}
    record = record_of(replace(JOINED, agent=second))
    await post(pair.http, body_of(room="agent-3", metadata=render(record)))
    assert hints[pair.owner.members.me.name] == ["ornina-1", "ornina-2"], "the record names the other one's agent"
    assert hints[pair.other.members.me.name] == ["ornina-2", "agent-3"]


async def test_event_that_says_nothing_of_calls_is_passed_to_no_gateway(
    pair: Pair, hints: dict[str, list[str]]
) -> None:
    await post(pair.http, json.dumps({"event": "egress_started"}).encode())
    await post(pair.http, body_of("track_published"))
    assert hints == {"a": [], "b": []}
    assert (pair.other.count("answered"), count(pair.other.world, "other")) == (0, 2)


async def test_forged_request_of_another_gateway_is_refused(pair: Pair, hints: dict[str, list[str]]) -> None:
    """The internal port checks the signature too, and passes nothing on."""
    internal = f"http://127.0.0.1:{pair.owner.internal_port}"
    headers = {"Content-Type": "application/webhook+json", "Authorization": signed(body_of(room="another"))}
    response = await pair.http.post(f"{internal}/v1/webhook", content=body_of(), headers=headers)
    assert response.status_code == 401
    response = await pair.http.post(
        f"{internal}/v1/webhook", content=body_of(), headers=headers | {"Authorization": signed(body_of())}
    )
    assert response.status_code == 204
    assert pair.owner.count("answered") == 0
    assert hints == {pair.owner.members.me.name: [ROOM], pair.other.members.me.name: []}


@pytest.mark.parametrize("refuses", [True, False], ids=["a gateway refuses", "a gateway hangs"])
async def test_gateway_that_is_gone_does_not_hold_up_livekit(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    monkeypatch.setattr(forwarding, "PASS_ON_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = 1 if refuses else hanging.getsockname()[1]
        name = next(name for number in numbers() if owner_of(SHARD, (name := f"gone-{number}", "a", "b")) == name)
        gone = GatewayMember(name=name, address=f"127.0.0.1:{port}")
        pair.other.members.received([pair.other.members.me, pair.owner.members.me, gone], time.monotonic())
        pair.other.members._active_from = 0.0
        assert (await post(pair.http, body_of())).status_code == 204
    assert pair.other.count("refused" if refuses else "unreachable") == 1
