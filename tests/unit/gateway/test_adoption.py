"""The next gateway adopts calls from the room records in LiveKit."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest

from agentspec.wire import GatewayMember
from gateway.agents import Agent
from gateway.calls.call import CallReason, CallState
from gateway.calls.step import CONNECT_TIMEOUT_SECONDS, Admission
from gateway.cluster.members import FENCE_SECONDS, Members
from gateway.livekit.connections import Connection, SecretError
from gateway.livekit.server import LiveKitUnreachable, Room
from tests.unit.gateway.fakes import FakeConnections, FakeLiveKit, World, create_world, example_agent
from tests.unit.gateway.scenes import (
    CLIENT,
    IDEMPOTENCY_KEY,
    REQUEST,
    adopt,
    agent_at,
    becomes_true,
    current,
    open_call,
    reaches,
)


@pytest.fixture
async def successor(world: World) -> AsyncIterator[World]:
    """The next gateway on the same LiveKit server; start it with `world.gateway.dispatcher.stop()`."""
    created = create_world(livekit=world.livekit)
    yield created
    await created.gateway.dispatcher.stop()


async def test_joined_and_waiting_calls_are_adopted_unchanged(world: World, successor: World) -> None:
    joined = await open_call(world)
    world.supply.free = successor.supply.free = 0
    waiting = await open_call(world)
    await world.gateway.dispatcher.stop()
    await adopt(successor)
    adopted = [current(successor, call) for call in (joined, waiting)]
    assert [call.state for call in adopted] == [CallState.JOINED, CallState.WAITING]
    for field in ("dispatch_metadata", "created_at", "identity", "request_hash", "call_token_hash", "agent_name"):
        expected = [getattr(call, field) for call in (joined, waiting)]
        assert [getattr(call, field) for call in adopted] == expected, field
    launches = list(successor.livekit.launches)
    await adopt(successor)
    assert successor.livekit.launches == launches, "adopting calls again changes nothing"


@pytest.mark.usefixtures("virtual_clock")
async def test_caller_who_has_not_come_yet_has_as_long_as_without_a_restart(world: World, successor: World) -> None:
    world.supply.free = successor.supply.free = 0
    call = await open_call(world, caller=False)
    await world.gateway.dispatcher.stop()
    await adopt(successor)
    await asyncio.sleep(CONNECT_TIMEOUT_SECONDS - 10)
    assert current(successor, call).state is CallState.WAITING
    ended = await reaches(successor, call, CallState.ENDED)
    assert ended.reason is CallReason.CALLER_NEVER_CAME


async def test_joined_call_survives_a_new_agent_name_and_a_restart(world: World, successor: World) -> None:
    call = await open_call(world)
    await world.gateway.dispatcher.stop()
    renamed = example_agent()
    renamed = replace(renamed, spec=renamed.spec.model_copy(update={"agent_name": "renamed-agent"}))
    assert renamed.agent_name == "renamed-agent"
    successor.agents.listed = [renamed]
    await adopt(successor)
    adopted = current(successor, call)
    assert (adopted.state, adopted.agent_name) == (CallState.JOINED, "ornina-agent")
    room = successor.gateway.watch.room(call.id)
    assert room is not None
    assert room.agents


async def test_adopted_waiting_call_is_dispatched_once(world: World, successor: World) -> None:
    world.supply.free = 0
    waiting = await open_call(world)
    await world.gateway.dispatcher.stop()
    await adopt(successor)
    await reaches(successor, waiting, CallState.JOINED)
    assert len(successor.livekit.agents_in(waiting.room)) == 1


async def test_repeated_request_finds_its_call_after_a_restart(world: World, successor: World) -> None:
    call = await open_call(world, key=IDEMPOTENCY_KEY)
    await world.gateway.dispatcher.stop()
    again = await successor.gateway.opener.open(example_agent(), REQUEST, CLIENT, IDEMPOTENCY_KEY)
    assert not again.created
    assert (again.call.id, again.call.room, again.call.identity) == (call.id, call.room, call.identity)
    assert len(successor.livekit.launches) == 1


async def test_rooms_without_a_dispatch_of_a_declared_agent_are_not_adopted(world: World) -> None:
    await world.livekit.create_room("ornina-theirs", "", "another-agent", "")
    await world.livekit.create_room("ornina-also", '{"callID": 1}', "", "")
    await adopt(world)
    assert list(world.gateway.ledger) == []


OTHER = GatewayMember(name="other", address="10.0.0.2:8082")


class Clock:
    """The time of a gateway's members."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def become_the_owner(members: Members, clock: Clock) -> None:
    """Let time pass until a gateway may act, and the other one go."""
    for _ in range(2):
        clock.seconds += FENCE_SECONDS * 0.6
        members.received([members.me], clock())


async def test_only_the_owner_of_an_agent_adopts_its_calls(world: World) -> None:
    call = await open_call(world)
    await world.livekit.create_room("ornina-foreign", "", "ornina-agent", "")
    clock = Clock()
    members = Members("me", "10.0.0.1:8082", clock=clock)
    members.received([OTHER], clock())
    created = create_world(livekit=world.livekit, members=members)
    await adopt(created)
    assert list(created.gateway.ledger) == []
    become_the_owner(members, clock)
    await becomes_true(lambda: len(list(created.gateway.ledger)) == 2)
    assert current(created, call).state is CallState.JOINED
    members.received([OTHER], clock())
    assert list(created.gateway.ledger) == [], "it releases them"
    assert len(world.livekit.agents_in(call.room)) == 1
    await created.gateway.dispatcher.stop()


async def test_new_owner_dispatches_nothing_until_it_knows_the_line(world: World) -> None:
    world.supply.free = 0
    await open_call(world)
    clock, key = Clock(), example_agent().key
    members = Members("me", "10.0.0.1:8082", clock=clock)
    members.received([OTHER], clock())
    created = create_world(livekit=world.livekit, members=members)
    created.gateway.watch.cover_declared()
    become_the_owner(members, clock)
    created.supply.free = 1
    assert created.gateway.dispatcher.admission(key) is Admission.WAIT
    await becomes_true(lambda: created.gateway.ledger.waiting(key))
    (waiting,) = created.gateway.ledger.waiting(key)
    assert created.gateway.dispatcher.admission(key) is Admission.WAIT, "the adopted call has the slot"
    assert created.gateway.dispatcher.admission(key, waiting) is Admission.FREE_SLOT
    await created.gateway.dispatcher.stop()


async def test_unreachable_server_is_searched_again(world: World, successor: World) -> None:
    call = await open_call(world)
    await world.gateway.dispatcher.stop()
    successor.livekit.error = LiveKitUnreachable("unreachable")
    await adopt(successor)
    assert successor.gateway.ledger.get(call.id) is None
    successor.livekit.error = None
    await adopt(successor)
    assert successor.gateway.ledger.get(call.id) is not None


@dataclass
class ServerOfEachAgent:
    """Connections by agent name: to a server, or an error."""

    by_agent: dict[str, FakeConnections | Exception]

    async def open(self, agent: Agent) -> Connection:
        connections = self.by_agent[agent.name]
        if isinstance(connections, Exception):
            raise connections
        return await connections.open(agent)


@pytest.mark.parametrize(
    "error",
    [ValueError("Invalid IPv6 URL"), LiveKitUnreachable("unreachable"), SecretError("deleted")],
    ids=["unexpected error", "unreachable", "no credentials"],
)
async def test_failing_server_does_not_affect_other_servers(
    world: World, successor: World, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await open_call(world)
    await world.gateway.dispatcher.stop()
    successor.agents.listed = [agent_at("wss://failing.example", "failing"), example_agent()]
    servers = ServerOfEachAgent({"failing": error, "ornina": successor.connections})
    monkeypatch.setattr(successor.gateway.watch, "_connections", servers)
    await adopt(successor)
    assert successor.gateway.ledger.get(call.id) is not None


async def test_servers_are_searched_concurrently_and_an_unreachable_one_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    both_requested = asyncio.Event()

    class Unreachable(FakeLiveKit):
        async def rooms(self, names: Sequence[str] = ()) -> list[Room]:
            requests.append(self.agent_name)
            if len(requests) == 2:
                both_requested.set()
            await asyncio.wait_for(both_requested.wait(), 1)
            raise LiveKitUnreachable("unreachable")

    servers = {"a": "wss://one.example", "b": "wss://one.example", "c": "wss://two.example"}
    world.agents.listed = [agent_at(url, name) for name, url in servers.items()]
    connections = ServerOfEachAgent({name: FakeConnections(Unreachable(name)) for name in servers})
    monkeypatch.setattr(world.gateway.watch, "_connections", connections)
    await adopt(world)
    assert requests == ["a", "c"]
