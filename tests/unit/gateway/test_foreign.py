"""Dispatches to rooms that another program made."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from agentspec.wire import read_dispatch_metadata
from gateway.api.context import Gateway
from gateway.calls.call import CallReason, CallState
from gateway.calls.foreign import DispatchRequest
from gateway.client import Client
from gateway.errors import RequestError
from gateway.livekit.connections import SecretError
from gateway.livekit.server import WAITING_AGENT_NAME, LiveKitUnreachable
from tests.unit.gateway.conftest import API_KEY
from tests.unit.gateway.fakes import World, example_agent
from tests.unit.gateway.scenes import ROOM, adopt, current, open_call, reaches
from tests.unit.gateway.test_http import rejected

METADATA = {"user_id": "u-17", "language": "en", "capabilities": ["video"], "plan": "gold"}
HELD = f"{WAITING_AGENT_NAME}:ornina-agent"
KEY = {"Authorization": f"Bearer {API_KEY}"}


async def dispatch(http: httpx.AsyncClient, status: int = 200, reason: str = "", **changes: Any) -> dict[str, Any]:
    """Request an agent for the room; returns the answer."""
    response = await http.post("/api/dispatch-agent", json={"room": ROOM, "metadata": METADATA} | changes)
    answer: dict[str, Any] = response.json()
    if reason:
        message = rejected(response, status, reason)
        assert (answer["success"], answer["message"]) == (False, message)
    assert response.status_code == status, response.text
    return answer


async def fails(gateway: Gateway, *, seconds: int = 2) -> RequestError:
    """Request an agent that cannot join, in the time of the running event loop; returns the error."""
    with pytest.raises(RequestError) as error:
        await gateway.rooms.dispatch(example_agent(join_timeout_seconds=seconds), DispatchRequest(room=ROOM), Client())
    return error.value


async def test_agent_joins_the_room_and_knows_the_metadata(http: httpx.AsyncClient, world: World, room: str) -> None:
    answer = await dispatch(http)
    (found,) = [one for one in world.livekit.rooms_by_name[room].dispatches if one.agent_name]
    assert answer == {"success": True, "dispatchId": found.id}
    metadata, dropped = read_dispatch_metadata(found.metadata)
    assert (metadata.user_id, metadata.language, metadata.capabilities) == ("u-17", "en", ["video"])
    assert (metadata.metadata, metadata.is_from_gateway, dropped) == ({"plan": "gold"}, False, 0)
    assert len(world.livekit.agents_in(room)) == 1
    assert world.livekit.rooms_by_name[room].metadata == "the back end's own metadata"


async def test_metadata_may_be_text(http: httpx.AsyncClient, world: World, room: str) -> None:
    await dispatch(http, metadata=json.dumps(METADATA))
    (found,) = [one for one in world.livekit.rooms_by_name[room].dispatches if one.agent_name]
    assert json.loads(found.metadata) == METADATA


async def test_agent_that_is_there_is_not_dispatched_again(http: httpx.AsyncClient, world: World, room: str) -> None:
    answers = await asyncio.gather(*(dispatch(http) for _ in range(5)))
    assert len({answer["dispatchId"] for answer in answers}) == 1
    assert world.livekit.launches.count((room, "ornina-agent")) == 1
    assert len(world.livekit.agents_in(room)) == 1


async def test_dispatch_of_another_program_is_awaited_and_not_repeated(
    http: httpx.AsyncClient, world: World, room: str
) -> None:
    await world.livekit.create_dispatch(room, "ornina-agent", "the back end's")
    await dispatch(http)
    assert world.livekit.launches.count((room, "ornina-agent")) == 1


async def test_call_that_waits_in_the_room_is_awaited_and_not_dispatched_again(
    virtual_time: object, virtual_clock: None, world: World, room: str
) -> None:
    await world.livekit.create_dispatch(room, HELD, "of the call")
    world.supply.free = 0
    asyncio.get_running_loop().call_later(1, world.livekit.join, room)
    await world.gateway.rooms.dispatch(example_agent(), DispatchRequest(room=ROOM), Client())
    assert (room, "ornina-agent") not in world.livekit.launches
    assert [one.dispatch_metadata for one in world.gateway.ledger] == ["of the call"]


async def test_missing_room_is_not_made(http: httpx.AsyncClient, world: World) -> None:
    await dispatch(http, 404, "RoomNotFound")
    assert world.livekit.rooms_by_name == {}
    assert world.livekit.launches == []


async def test_room_of_a_call_gets_no_second_agent(http: httpx.AsyncClient, world: World) -> None:
    call = await open_call(world)
    launches = len(world.livekit.launches)
    await dispatch(http, 409, "RoomTaken", room=call.room)
    assert len(world.livekit.launches) == launches


async def test_room_that_the_agent_does_not_serve_is_refused(http: httpx.AsyncClient, world: World) -> None:
    await world.livekit.create_room("support-1", "", "", "")
    answer = await dispatch(http, 400, "RoomNameMismatch", room="support-1")
    assert answer["field"] == "room"


@pytest.mark.parametrize("name", ["ornina", "agents/ornina"])
async def test_agent_is_named_in_the_body_or_the_query(
    http: httpx.AsyncClient, world: World, room: str, name: str
) -> None:
    world.agents.listed.append(example_agent("other"))
    await dispatch(http, 400, "InvalidRequest")
    await dispatch(http, agent=name)
    response = await http.post(f"/api/dispatch-agent?agent={name}", json={"room": room})
    assert response.json()["success"] is True


async def test_dispatch_follows_the_rules_of_access(http: httpx.AsyncClient, world: World, room: str) -> None:
    world.agents.listed = [example_agent(access="Authenticated")]
    await dispatch(http, 401, "Unauthorized")
    assert world.livekit.agents_in(room) == []
    response = await http.post("/api/dispatch-agent", json={"room": room}, headers=KEY)
    assert response.status_code == 200, response.text


async def test_agent_that_takes_no_calls_is_refused(http: httpx.AsyncClient, world: World, room: str) -> None:
    world.agents.listed = [example_agent(suspend=True)]
    await dispatch(http, 409, "Suspended")
    world.agents.listed = [replace(example_agent(), name_taken=True)]
    await dispatch(http, 409, "NameTaken")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"room": ""}, "room"),
        ({"metadata": {"callID": "forged"}}, "metadata"),
        ({"metadata": '{"callID": "forged"}'}, "metadata"),
        ({"rooms": "x"}, "rooms"),
    ],
    ids=["empty room", "reserved key", "reserved key in text", "unknown field"],
)
async def test_invalid_body_is_refused(http: httpx.AsyncClient, room: str, changes: dict[str, Any], field: str) -> None:
    answer = await dispatch(http, 400, "InvalidRequest", **changes)
    assert answer["field"].startswith(field)


async def test_call_of_a_request_is_followed_and_counted(http: httpx.AsyncClient, world: World, room: str) -> None:
    await dispatch(http)
    (call,) = world.gateway.ledger
    assert (call.room, call.foreign, call.client.address) == (room, True, "127.0.0.1")
    await reaches(world, call, CallState.JOINED)
    labels = {"agent_namespace": "agents", "agent": "ornina"}
    opened = "avatar_agent_gateway_calls_opened_total"
    assert world.gateway.metrics.registry.get_sample_value(opened, labels) == 1
    await adopt(world)
    assert [one.id for one in world.gateway.ledger] == [call.id], "the room is not adopted again"


@pytest.mark.parametrize("metadata", [METADATA, {}, "a text"], ids=["object", "nothing", "text"])
async def test_agents_at_once_take_each_avatar_seat_once(
    virtual_time: object, virtual_clock: None, world: World, metadata: dict[str, Any] | str
) -> None:
    world.supply.free = world.livekit.slots = 3
    world.supply.seats = 1
    rooms = [f"{ROOM}-{number}" for number in range(3)]
    for name in rooms:
        await world.livekit.create_room(name, "", "", "")
        world.livekit.connect_caller(name, "layla")
    requests = [DispatchRequest(room=name, metadata=metadata) for name in rooms]
    await asyncio.gather(*(world.gateway.rooms.dispatch(example_agent(), one, Client()) for one in requests))
    found = [one for name in rooms for one in world.livekit.rooms_by_name[name].dispatches if one.agent_name]
    read = [read_dispatch_metadata(one.metadata)[0] for one in found]
    assert sorted(one.avatar for one in read) == [False, False, True]
    (seated,) = [one for one in read if one.avatar]
    assert all(one == seated.model_copy(update={"avatar": False}) for one in read if not one.avatar)


async def test_agents_at_once_take_each_slot_once(virtual_time: object, virtual_clock: None, world: World) -> None:
    world.livekit.slots = 1
    for name in (f"{ROOM}-1", f"{ROOM}-2"):
        await world.livekit.create_room(name, "", "", "")
        world.livekit.connect_caller(name, "layla")
    agent = example_agent(join_timeout_seconds=2)
    requests = [DispatchRequest(room=f"{ROOM}-{number}") for number in (1, 2)]
    first, second = await asyncio.gather(
        *(world.gateway.rooms.dispatch(agent, one, Client()) for one in requests), return_exceptions=True
    )
    assert isinstance(first, str)
    assert isinstance(second, RequestError)
    assert (second.reason, world.livekit.agents_in(f"{ROOM}-2")) == ("NoFreeSlot", [])


async def test_dispatch_that_livekit_does_not_take_leaves_no_call(
    http: httpx.AsyncClient, world: World, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def create_dispatch(room: str, agent_name: str, metadata: str) -> None:
        raise LiveKitUnreachable("no answer")

    monkeypatch.setattr(world.livekit, "create_dispatch", create_dispatch)
    await dispatch(http, 503, "LiveKitUnreachable")
    assert list(world.gateway.ledger) == []


async def test_second_agent_in_a_room_leaves_the_call_of_the_first(
    virtual_time: object, virtual_clock: None, world: World, room: str
) -> None:
    await world.gateway.rooms.dispatch(example_agent(), DispatchRequest(room=ROOM), Client())
    (call,) = world.gateway.ledger
    other = example_agent("ornina-second", join_timeout_seconds=2, room_name_pattern="^ornina-")
    with pytest.raises(RequestError):  # its workers are not played
        await world.gateway.rooms.dispatch(other, DispatchRequest(room=ROOM), Client())
    assert (room, other.agent_name) in world.livekit.launches
    assert [one.id for one in world.gateway.ledger] == [call.id]
    assert len(world.livekit.agents_in(room)) == 1


async def test_livekit_failures_have_their_reason(http: httpx.AsyncClient, world: World, room: str) -> None:
    world.livekit.error = LiveKitUnreachable("unreachable")
    await dispatch(http, 503, "LiveKitUnreachable")
    world.livekit.error = None
    world.connections.error = SecretError("Secret agents/livekit does not exist")
    await dispatch(http, 503, "CredentialsMissing")


async def test_busy_agents_are_reported_and_no_agent_comes_later(
    virtual_time: object, virtual_clock: None, world: World, room: str
) -> None:
    world.supply.free = 0
    error = await fails(world.gateway)
    assert (error.status, error.reason) == (503, "NoFreeSlot")
    assert (room, "ornina-agent") not in world.livekit.launches
    assert [one.agent_name for one in world.livekit.rooms_by_name[room].dispatches] == [""]
    assert world.gateway.ledger.pending() == {}
    world.supply.free = 1
    await asyncio.sleep(5)
    assert world.livekit.agents_in(room) == []


async def test_slot_that_becomes_free_in_time_is_used(
    virtual_time: object, virtual_clock: None, world: World, room: str
) -> None:
    world.supply.free = 0
    asyncio.get_running_loop().call_later(1, setattr, world.supply, "free", 1)
    dispatch_id = await world.gateway.rooms.dispatch(example_agent(), DispatchRequest(room=ROOM), Client())
    assert len(world.livekit.agents_in(room)) == 1
    assert [one.id for one in world.livekit.rooms_by_name[room].dispatches if one.agent_name] == [dispatch_id]


@pytest.mark.parametrize(
    ("slots", "reason"), [(0, "NotAnswered"), (1, "AgentDidNotJoin")], ids=["nobody accepts", "worker fails"]
)
async def test_agent_that_does_not_join_is_reported_and_withdrawn(
    virtual_time: object, virtual_clock: None, world: World, room: str, slots: int, reason: str
) -> None:
    world.livekit.slots, world.livekit.joins = slots, False
    started = asyncio.get_running_loop().time()
    error = await fails(world.gateway, seconds=10)
    assert (error.status, error.reason) == (503, reason)
    assert asyncio.get_running_loop().time() - started == pytest.approx(10, abs=1)
    assert [one.agent_name for one in world.livekit.rooms_by_name[room].dispatches] == [""]


async def test_call_that_the_gateway_made_of_the_room_ends_with_the_request(
    virtual_time: object, virtual_clock: None, world: World, room: str
) -> None:
    world.livekit.slots = 0
    await world.livekit.create_dispatch(room, "ornina-agent", "")
    await adopt(world)
    (call,) = world.gateway.ledger
    assert (call.room, call.foreign) == (room, True)
    await fails(world.gateway, seconds=10)
    assert list(world.gateway.ledger) == []
    assert current(world, call).reason is CallReason.NOT_ANSWERED
    assert [one.agent_name for one in world.livekit.rooms_by_name[room].dispatches] == [""]
    world.livekit.slots = 1
    await asyncio.sleep(30)
    assert world.livekit.agents_in(room) == []
