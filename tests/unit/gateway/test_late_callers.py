"""Rooms of other programs whose caller comes late, comes after the call has ended, or never comes."""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.calls.adoption import OFFER_SECONDS
from gateway.calls.call import Call, CallReason, CallState
from gateway.calls.effects import held_name
from gateway.calls.foreign import DispatchRequest
from gateway.calls.step import CONNECT_TIMEOUT_SECONDS, SEARCH_TIMEOUT_SECONDS, WAITING_CALLER_GRACE_SECONDS
from gateway.client import Client
from gateway.livekit.server import WAITING_AGENT_NAME
from tests.unit.gateway.fakes import World, create_world, example_agent
from tests.unit.gateway.scenes import NOW, adopt, becomes_true, current, reaches, report_of_ended

pytestmark = pytest.mark.usefixtures("virtual_clock")

ROOM = "ornina-of-the-back-end"
CALLER = "layla"
METADATA = json.dumps({"plan": "gold"})
NOTICED_SECONDS = 5.0
"""Within this time the list of rooms has shown a change, and the gateway has acted on it."""


def set_slots(world: World, slots: int) -> None:
    world.supply.free = world.livekit.slots = slots


async def adopted(world: World, *, slots: int = 0) -> Call:
    """Let a back end make a room with a dispatch and without a caller; return its call."""
    set_slots(world, slots)
    await world.livekit.create_room(ROOM, "", "ornina-agent", METADATA)
    await adopt(world)
    (call,) = world.gateway.ledger
    return call


async def abandoned(world: World) -> Call:
    """Return a call that has ended because its caller did not come. Its room is still open."""
    call = await adopted(world)
    ended = await reaches(world, call, CallState.ENDED)
    await asyncio.sleep(NOTICED_SECONDS)
    return ended


@pytest.mark.parametrize("seconds", [15, 50])
async def test_caller_who_comes_late_into_a_foreign_room_gets_an_agent(world: World, seconds: int) -> None:
    call = await adopted(world)
    await asyncio.sleep(seconds)
    assert current(world, call).state is CallState.WAITING
    world.livekit.connect_caller(ROOM, CALLER)
    set_slots(world, 1)
    await reaches(world, call, CallState.JOINED)
    (found,) = world.livekit.rooms_by_name[ROOM].dispatches
    assert json.loads(found.metadata)["plan"] == "gold"


async def test_agent_waits_for_the_caller_of_a_foreign_room(world: World) -> None:
    call = await adopted(world, slots=1)
    await asyncio.sleep(50)
    assert current(world, call).state is CallState.JOINED
    assert len(world.livekit.agents_in(ROOM)) == 1


async def test_dispatch_into_an_old_empty_room_waits_as_long(world: World) -> None:
    set_slots(world, 0)
    await world.livekit.create_room(ROOM, "", "", "")
    await asyncio.sleep(300)
    await world.livekit.create_dispatch(ROOM, "ornina-agent", METADATA)
    await adopt(world)
    (call,) = world.gateway.ledger
    await asyncio.sleep(50)
    assert current(world, call).state is CallState.WAITING


async def test_foreign_call_ends_soon_after_its_caller_left(world: World) -> None:
    call = await adopted(world)
    world.livekit.connect_caller(ROOM, CALLER)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    world.livekit.disconnect(ROOM, CALLER)
    await asyncio.sleep(WAITING_CALLER_GRACE_SECONDS + NOTICED_SECONDS)
    assert current(world, call).reason is CallReason.CALLER_LEFT
    assert world.livekit.rooms_by_name[ROOM].dispatches == []
    world.livekit.connect_caller(ROOM, CALLER)
    await asyncio.sleep(NOTICED_SECONDS)
    assert list(world.gateway.ledger) == []


async def test_foreign_room_is_held_for_a_caller_who_has_not_come(world: World) -> None:
    ended = await abandoned(world)
    assert ended.reason is CallReason.CALLER_NEVER_CAME
    assert ended.state_since - ended.search_started_at == pytest.approx(CONNECT_TIMEOUT_SECONDS, abs=2)
    (found,) = world.livekit.rooms_by_name[ROOM].dispatches
    assert (held_name(found.agent_name), found.metadata) == ("ornina-agent", METADATA)
    await asyncio.sleep(1000)
    assert list(world.gateway.ledger) == [], "an empty room is no call, also when the ended one is forgotten"


@pytest.mark.parametrize("seconds", [0, 300, 1000])
async def test_caller_who_comes_after_the_end_begins_another_call(world: World, seconds: int) -> None:
    ended = await abandoned(world)
    await asyncio.sleep(seconds)
    set_slots(world, 1)
    world.livekit.connect_caller(ROOM, CALLER)
    await asyncio.sleep(NOTICED_SECONDS)
    assert current(world, ended).state is CallState.JOINED
    (found,) = world.livekit.rooms_by_name[ROOM].dispatches
    assert (found.agent_name, json.loads(found.metadata)["plan"]) == ("ornina-agent", "gold")


async def test_second_call_of_a_foreign_room_is_counted_and_has_its_own_place(world: World) -> None:
    ended = await abandoned(world)
    world.livekit.connect_caller(ROOM, CALLER)
    await becomes_true(lambda: list(world.gateway.ledger))
    assert current(world, ended).created_at > ended.state_since
    opened, labels = "avatar_agent_gateway_calls_opened_total", {"agent_namespace": "agents", "agent": "ornina"}
    assert world.gateway.metrics.registry.get_sample_value(opened, labels) == 2


async def test_held_room_without_a_caller_becomes_no_call_of_another_gateway(world: World) -> None:
    await world.livekit.create_room(ROOM, "", f"{WAITING_AGENT_NAME}:ornina-agent", METADATA)
    successor = create_world(livekit=world.livekit)
    await adopt(successor)
    await asyncio.sleep(NOTICED_SECONDS)
    assert list(successor.gateway.ledger) == []
    successor.livekit.connect_caller(ROOM, CALLER)
    await asyncio.sleep(NOTICED_SECONDS)
    assert [call.room for call in successor.gateway.ledger] == [ROOM]
    await successor.gateway.dispatcher.stop()


async def test_caller_of_a_room_that_was_held_for_long_is_last_in_the_line(world: World) -> None:
    set_slots(world, 0)
    await world.livekit.create_room(ROOM, "", f"{WAITING_AGENT_NAME}:ornina-agent", METADATA)
    room = world.livekit.rooms_by_name[ROOM]
    room.created_at = NOW
    room.dispatches[:] = [replace(one, created_at=NOW) for one in room.dispatches]
    await asyncio.sleep(SEARCH_TIMEOUT_SECONDS + 1)
    world.livekit.connect_caller(ROOM, CALLER)
    await adopt(world)
    (call,) = world.gateway.ledger
    assert call.created_at > NOW + SEARCH_TIMEOUT_SECONDS


async def test_request_for_an_agent_in_an_abandoned_room_is_answered_at_once(world: World) -> None:
    await abandoned(world)
    set_slots(world, 1)
    await world.gateway.rooms.dispatch(example_agent(join_timeout_seconds=2), DispatchRequest(room=ROOM), Client())
    assert [one.agent_name for one in world.livekit.rooms_by_name[ROOM].dispatches] == ["ornina-agent"]


async def test_dispatch_after_the_end_of_a_call_begins_another_one(world: World) -> None:
    call = await adopted(world, slots=1)
    world.livekit.connect_caller(ROOM, CALLER)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    (agent,) = world.livekit.agents_in(ROOM)
    reported = report_of_ended(agent, ROOM)
    world.livekit.disconnect(ROOM, agent)
    world.gateway.reports.receive(reported)
    ended = await reaches(world, call, CallState.ENDED)
    await asyncio.sleep(NOTICED_SECONDS)
    assert world.livekit.rooms_by_name[ROOM].dispatches == []
    await asyncio.sleep(300)
    assert list(world.gateway.ledger) == [], "the caller who stays in the room has no call"

    set_slots(world, 0)
    await world.livekit.create_dispatch(ROOM, "ornina-agent", METADATA)
    dispatches = world.livekit.rooms_by_name[ROOM].dispatches
    dispatches[:] = [replace(one, created_at=ended.state_since + 300) for one in dispatches]
    await asyncio.sleep(OFFER_SECONDS + NOTICED_SECONDS)
    assert current(world, call).state is CallState.WAITING, "it is held until a slot is free"
    world.gateway.reports.receive(reported)
    assert current(world, call).is_live, "the job of the first call says nothing about the second"
    set_slots(world, 1)
    await reaches(world, call, CallState.JOINED)
