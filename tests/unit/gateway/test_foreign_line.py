"""Requests for an agent in a room of another program are calls: they wait in the agent's line."""

import asyncio
import json

import pytest

from gateway.calls.call import CallReason, CallState
from gateway.calls.foreign import DispatchRequest
from gateway.calls.reads import READ_BURST, READS_PER_SECOND
from gateway.client import Client
from gateway.errors import RequestError
from gateway.livekit.server import LiveKitUnreachable, Participant
from tests.unit.gateway.fakes import World, example_agent
from tests.unit.gateway.scenes import NOW, ROOM, adopt, becomes_true, current, open_call, reaches, report_of_ended
from tests.unit.gateway.test_foreign import HELD, METADATA, fails

pytestmark = pytest.mark.usefixtures("virtual_time", "virtual_clock")


async def request(world: World, room: str = ROOM) -> str:
    """Request the agent for a room, without HTTP; returns the id of its dispatch."""
    wanted = DispatchRequest(room=room, metadata=METADATA)
    return await world.gateway.rooms.dispatch(example_agent(), wanted, Client())


async def waits(world: World, room: str = ROOM) -> "asyncio.Task[str]":
    """Request the agent for a room while no slot is free; the request then waits in the line."""
    before = world.gateway.ledger.pending().get("agents/ornina", 0)
    waiting = asyncio.create_task(request(world, room))
    await becomes_true(lambda: world.gateway.ledger.pending() == {"agents/ornina": before + 1})
    return waiting


async def test_waiting_request_is_demand(world: World, room: str) -> None:
    world.supply.free = 0
    waiting = await waits(world)
    assert HELD in [one.agent_name for one in world.livekit.rooms_by_name[room].dispatches]
    assert world.supply.exchanges, "the controller learns of it at once"
    world.supply.free = 1
    world.gateway.dispatcher.wake_waiting_calls()
    await waiting
    (found,) = [one for one in world.livekit.rooms_by_name[room].dispatches if one.agent_name]
    assert (found.id, json.loads(found.metadata)) == (waiting.result(), METADATA)


async def test_requests_and_calls_wait_in_one_line(world: World, room: str) -> None:
    world.supply.free = 0
    world.livekit.slots = 3
    first = await open_call(world)
    await asyncio.sleep(1)
    waiting = await waits(world)
    world.supply.free = 1
    await reaches(world, first, CallState.JOINED)
    world.supply.free = 0
    last = await open_call(world)
    assert not waiting.done()
    world.supply.free = 1
    await waiting
    assert current(world, last).state is CallState.WAITING


async def test_agent_is_dispatched_before_the_caller_comes(world: World, room: str) -> None:
    world.livekit.disconnect(room, "layla")
    world.supply.free = 0
    waiting = await waits(world)
    world.supply.free = 1
    await waiting
    assert len(world.livekit.agents_in(room)) == 1


async def test_request_keeps_its_place_although_no_caller_has_come(world: World, room: str) -> None:
    world.livekit.disconnect(room, "layla")
    world.supply.free = 0
    waiting = await waits(world)
    await asyncio.sleep(9)  # the request waits for 10 s
    later = await open_call(world)
    world.supply.free = 1
    world.gateway.dispatcher.wake_waiting_calls()
    await waiting
    assert current(world, later).state is CallState.WAITING


async def test_job_of_an_earlier_call_says_nothing_about_the_next_request(world: World, room: str) -> None:
    await request(world)
    (call,) = world.gateway.ledger
    (agent,) = world.livekit.agents_in(room)
    reported = report_of_ended(agent, room)
    world.livekit.disconnect(room, agent)
    world.gateway.reports.receive(reported)
    await reaches(world, call, CallState.ENDED)
    world.supply.free = 0
    waiting = await waits(world)
    world.gateway.reports.receive(reported)
    await asyncio.sleep(1)
    assert current(world, call).is_live
    world.supply.free = 1
    await waiting


async def test_call_that_waits_for_its_caller_is_dispatched_for_a_request(world: World, room: str) -> None:
    world.supply.free = 0
    await world.livekit.create_dispatch(room, HELD, "of the call")
    await adopt(world)
    world.livekit.disconnect(room, "layla")
    await asyncio.sleep(5)  # the list of rooms has shown it by then
    world.supply.free = 1
    await asyncio.sleep(2)
    assert world.livekit.agents_in(room) == []
    await request(world)
    assert len(world.livekit.agents_in(room)) == 1
    assert [one.dispatch_metadata for one in world.gateway.ledger] == ["of the call"]


async def test_waiting_requests_ask_livekit_no_more_than_their_calls(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    reads = world.livekit.participants

    async def participants(room: str) -> list[Participant]:
        asked.append(room)
        return await reads(room)

    monkeypatch.setattr(world.livekit, "participants", participants)
    world.gateway.watch.is_heard = lambda: True
    world.supply.free = None
    world.livekit.slots, world.livekit.joins = 20, False
    rooms = [f"{ROOM}-{number}" for number in range(20)]
    for name in rooms:
        await world.livekit.create_room(name, "", "", "")
    await asyncio.gather(*(request(world, name) for name in rooms), return_exceptions=True)
    limit = READ_BURST + 10 * READS_PER_SECOND + len(rooms)  # the gateway asks once whether a worker accepted
    assert 0 < len(asked) <= limit


async def test_agent_that_is_suspended_meanwhile_is_reported(world: World, room: str) -> None:
    world.supply.free = 0
    waiting = await waits(world)
    world.agents.listed = [example_agent(suspend=True)]
    with pytest.raises(RequestError) as error:
        await waiting
    assert (error.value.status, error.value.reason) == (409, "Suspended")


async def test_request_whose_agent_has_moved_is_misdirected(world: World, room: str) -> None:
    world.supply.free = 0
    waiting = await waits(world)
    (call,) = world.gateway.ledger
    world.gateway.dispatcher.release(call)
    with pytest.raises(RequestError) as error:
        await waiting
    assert error.value.status == 421
    assert HELD in [one.agent_name for one in world.livekit.rooms_by_name[room].dispatches], "the new owner finds it"


async def test_room_that_was_made_again_gets_an_agent_of_its_own(world: World, room: str) -> None:
    first = await request(world)
    (call,) = world.gateway.ledger
    await world.livekit.delete_room(room)
    await world.livekit.create_room(room, "", "", "")
    world.livekit.slots = 1
    second = await request(world)
    assert first != second
    assert len(world.livekit.agents_in(room)) == 1
    assert (current(world, call).reason, len(list(world.gateway.ledger))) == (CallReason.FINISHED, 1)


async def test_agent_that_is_lost_is_awaited_again(world: World, room: str) -> None:
    await request(world)
    world.livekit.slots = 2
    (identity,) = world.livekit.agents_in(room)
    world.livekit.disconnect(room, identity)
    await request(world)
    assert world.livekit.agents_in(room) not in ([], [identity])


async def test_refusal_counts_as_a_failed_call_while_livekit_does_not_answer(world: World, room: str) -> None:
    world.supply.free = 0
    waiting = await waits(world)
    (call,) = world.gateway.ledger
    world.livekit.error = LiveKitUnreachable("no answer")
    with pytest.raises(RequestError) as error:
        await waiting
    assert (error.value.status, error.value.reason) == (503, "LiveKitUnreachable")
    assert (current(world, call).state, current(world, call).reason) == (CallState.FAILED, CallReason.NO_FREE_SLOT)
    world.livekit.error, world.supply.free = None, 1
    await asyncio.sleep(20)
    assert world.livekit.agents_in(room) == []
    assert [one.agent_name for one in world.livekit.rooms_by_name[room].dispatches] == [""]


async def test_refused_request_may_be_repeated(world: World, room: str) -> None:
    world.supply.free = 0
    await fails(world.gateway)
    world.supply.free = 1
    assert await request(world)
    assert len(world.livekit.agents_in(room)) == 1


async def test_request_for_a_held_room_dispatches_once(world: World, room: str) -> None:
    room_of = world.livekit.rooms_by_name[room]
    await world.livekit.create_dispatch(room, HELD, json.dumps(METADATA))
    assert HELD in [one.agent_name for one in room_of.dispatches]
    before = len(world.livekit.launches)
    await request(world)
    assert [name for _, name in world.livekit.launches[before:]] == ["ornina-agent"]
    (call,) = world.gateway.ledger
    assert call.state is CallState.JOINED


async def test_job_of_an_earlier_room_of_the_same_name_says_nothing_about_a_call(world: World, room: str) -> None:
    await request(world)
    (call,) = world.gateway.ledger
    (agent,) = world.livekit.agents_in(room)
    reported = report_of_ended(agent, room)
    await world.livekit.delete_room(room)
    world.gateway.reports.receive(reported)
    await reaches(world, call, CallState.ENDED)
    world.supply.free = 0
    await world.livekit.create_room(room, "", "ornina-agent", json.dumps(METADATA))
    world.livekit.rooms_by_name[room].created_at = NOW + asyncio.get_running_loop().time()
    world.livekit.connect_caller(room, "layla")
    await becomes_true(lambda: list(world.gateway.ledger))
    (second,) = world.gateway.ledger
    assert second.id != call.id
    await asyncio.sleep(1)
    assert current(world, second).is_live
