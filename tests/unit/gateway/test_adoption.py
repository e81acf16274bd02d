"""Calls are found again in LiveKit's rooms by the next gateway."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from gateway import adoption
from gateway.adoption import adopt_calls
from gateway.agents import Agent
from gateway.callrequest import parse_request
from gateway.calls import Call, CallState
from gateway.connections import Connection, SecretError
from gateway.dispatcher import read_room
from gateway.livekit import LiveKitUnreachable
from tests.unit.gateway.fakes import FakeConnections, FakeLiveKit, World, agent, world
from tests.waiting import soon

REQUEST = parse_request(b'{"agent": "ornina", "name": "Layla", "userId": "user-7"}')
KEY = "one-and-the-same"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "MIN_ROOM_AGE_SECONDS", -1.0)


async def opened(there: World, key: str | None = None) -> Call:
    call = (await there.gateway.opener.open(agent(), REQUEST, "public", key)).call
    there.livekit.enter(call.room, call.identity)
    return call


async def restarted(before: World) -> World:
    """Another gateway on the same LiveKit server."""
    await before.gateway.dispatcher.stop()
    after = world()
    after.connections.livekit = before.livekit
    return World(before.livekit, after.agents, after.connections, after.supply, after.gateway)


async def search(there: World) -> None:
    await adopt_calls(there.agents, there.connections, there.gateway.opener)


async def test_joined_and_waiting_calls_are_taken_over_as_they_stand(there: World) -> None:
    joined = await opened(there)
    there.supply.free = 0
    waiting = await opened(there)
    after = await restarted(there)
    after.supply.free = 0
    await search(after)
    ledger = after.gateway.ledger
    found = ledger.get(joined.id), ledger.get(waiting.id)
    assert [call.state for call in found if call] == [CallState.JOINED, CallState.WAITING]
    assert [call.dispatch_metadata for call in found if call] == [joined.dispatch_metadata, waiting.dispatch_metadata]
    assert [(call.created_at, call.identity, call.request_hash) for call in found if call] == [
        (call.created_at, call.identity, call.request_hash) for call in (joined, waiting)
    ]
    before = list(after.livekit.launched)
    await search(after)
    assert after.livekit.launched == before, "finding calls again changes nothing"
    await after.gateway.dispatcher.stop()


async def test_a_call_in_progress_outlives_a_changed_agent_name_and_a_restart(there: World) -> None:
    call = await opened(there)
    after = await restarted(there)
    renamed = agent()
    renamed = replace(renamed, spec=renamed.spec.model_copy(update={"agent_name": "renamed-agent"}))
    assert renamed.agent_name == "renamed-agent"
    after.agents.known = [renamed]
    await search(after)
    found = after.gateway.ledger.get(call.id)
    assert found is not None
    assert (found.state, found.agent_name) == (CallState.JOINED, "ornina-agent")
    seen = await read_room(after.livekit, found, found.created_at)
    assert seen.agent_present
    await after.gateway.dispatcher.stop()


async def test_a_waiting_call_goes_on_at_the_next_gateway(there: World) -> None:
    there.supply.free = 0
    waiting = await opened(there)
    after = await restarted(there)
    await search(after)
    await soon(lambda: after.livekit.agents_in(waiting.room))
    assert len(after.livekit.agents_in(waiting.room)) == 1
    await after.gateway.dispatcher.stop()


async def test_a_repeated_request_finds_its_call_after_a_restart(there: World) -> None:
    call = await opened(there, KEY)
    after = await restarted(there)
    again = await after.gateway.opener.open(agent(), REQUEST, "public", KEY)
    assert not again.created
    assert (again.call.id, again.call.room, again.call.identity) == (call.id, call.room, call.identity)
    assert len(after.livekit.launched) == 1
    await after.gateway.dispatcher.stop()


async def test_rooms_of_others_are_left_alone(there: World) -> None:
    await there.livekit.create_room("ornina-theirs", "", "ornina-agent", "")
    await there.livekit.create_room("ornina-also", '{"callID": 1}', "ornina-agent", "")
    await search(there)
    assert list(there.gateway.ledger) == []


async def test_a_server_that_is_away_is_searched_next_time(there: World) -> None:
    call = await opened(there)
    after = await restarted(there)
    after.livekit.error = LiveKitUnreachable("away")
    await search(after)
    assert after.gateway.ledger.get(call.id) is None
    after.livekit.error = None
    await search(after)
    assert after.gateway.ledger.get(call.id) is not None
    await after.gateway.dispatcher.stop()


@dataclass
class Servers:
    """Connections by agent: to a server, or a failure."""

    by_agent: dict[str, FakeConnections | Exception]

    async def open(self, agent: Agent) -> Connection:
        found = self.by_agent[agent.name]
        if isinstance(found, Exception):
            raise found
        return await found.open(agent)


def elsewhere(name: str, url: str) -> Agent:
    found = agent(name)
    return replace(
        found, spec=found.spec.model_copy(update={"livekit": found.spec.livekit.model_copy(update={"url": url})})
    )


@pytest.mark.parametrize("trouble", [ValueError("Invalid IPv6 URL"), LiveKitUnreachable("away"), SecretError("none")])
async def test_a_server_in_trouble_costs_the_others_no_call(there: World, trouble: Exception) -> None:
    call = await opened(there)
    after = await restarted(there)
    after.agents.known = [elsewhere("wrong", "wss://wrong.example"), agent()]
    servers = Servers({"wrong": trouble, "ornina": after.connections})
    await adopt_calls(after.agents, servers, after.gateway.opener)
    assert after.gateway.ledger.get(call.id) is not None
    await after.gateway.dispatcher.stop()


async def test_servers_are_searched_side_by_side_and_a_dead_one_once(there: World) -> None:
    asked: list[str] = []
    all_asked = asyncio.Event()

    class Dead(FakeLiveKit):
        async def rooms(self, names: object = ()) -> list[object]:  # type: ignore[override]
            asked.append(self.agent_name)
            if len(asked) == 2:
                all_asked.set()
            await asyncio.wait_for(all_asked.wait(), 1)
            raise LiveKitUnreachable("away")

    names = ["a", "b", "c"]
    there.agents.known = [elsewhere(name, f"wss://{'one' if name != 'c' else 'two'}.example") for name in names]
    servers = Servers({name: FakeConnections(Dead(name)) for name in names})
    await adopt_calls(there.agents, servers, there.gateway.opener)
    assert asked == ["a", "c"]
