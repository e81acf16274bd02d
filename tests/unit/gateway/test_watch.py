"""Which rooms are read, and when, with LiveKit in memory and in virtual time."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.calls.call import Call, CallState, Cause
from gateway.calls.ledger import CALLER_EXPECTED_SECONDS
from gateway.calls.reads import READS_PER_SECOND
from gateway.calls.step import AGENT_GRACE_SECONDS
from gateway.calls.watch import READ_RETRY_SECONDS
from gateway.livekit.server import LiveKitUnreachable, Participant
from tests.unit.gateway.fakes import FakeLiveKit, World, create_world, example_agent
from tests.unit.gateway.scenes import current, open_call, reaches

pytestmark = pytest.mark.usefixtures("virtual_clock")

CALLS = 21
TURN_SECONDS = CALLS / READS_PER_SECOND
"""How long it takes to read the rooms of all calls in their turn."""
BURST_SECONDS = 120.0
"""After this time, no more requests may be made at once than the rates allow."""
MAX_REQUESTS_PER_SECOND = 5.0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A gateway with the default limits among fakes."""
    created = create_world()
    yield created
    await created.gateway.dispatcher.stop()


async def joined_call(world: World) -> Call:
    """Open a call that keeps the only slot."""
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    world.supply.free = 0
    return call


def replace_agent(world: World, call: Call) -> None:
    """Let the agent leave in the moment in which another program joins: the list of rooms shows no change."""
    room = world.livekit.rooms_by_name[call.room]
    caller = [one for one in room.participants if not one.is_agent]
    room.participants = [*caller, Participant("recorder", True, "recorder", 0)]


async def test_lost_agent_is_noticed_while_many_calls_wait(world: World) -> None:
    call = await joined_call(world)
    for _ in range(CALLS - 1):
        await open_call(world)
    await asyncio.sleep(2 * TURN_SECONDS)  # every caller has been seen
    replace_agent(world, call)
    await asyncio.sleep(TURN_SECONDS + AGENT_GRACE_SECONDS + 2)
    assert Cause.AGENT_LOST in current(world, call).causes


async def test_lost_agent_is_noticed_while_many_agents_are_on_their_way(world: World) -> None:
    call = await joined_call(world)
    world.livekit.joins = False
    world.livekit.slots = world.supply.free = CALLS
    for _ in range(CALLS - 1):
        room = world.gateway.watch.room((await open_call(world)).id)
        assert room is not None
        room.accepted = True  # as the workers report
    await asyncio.sleep(1)  # the reads of the first burst are used up
    replace_agent(world, call)
    await asyncio.sleep(TURN_SECONDS + AGENT_GRACE_SECONDS + 2)
    assert Cause.AGENT_LOST in current(world, call).causes


async def test_room_whose_reads_fail_takes_no_reads_from_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call, reads = await joined_call(world), 0

    async def fail(_: str) -> list[Participant]:
        nonlocal reads
        reads += 1
        raise LiveKitUnreachable("no answer")

    monkeypatch.setattr(world.livekit, "participants", fail)
    room = world.gateway.watch.room(call.id)
    assert room is not None
    room.event(time.time())
    world.gateway.watch.changed(call.id, call.server)
    await asyncio.sleep(10 * READ_RETRY_SECONDS)
    assert 9 <= reads <= 11


async def test_callers_of_a_crowd_are_seen_while_their_place_counts(world: World) -> None:
    world.supply.free = 0
    calls = [await open_call(world, caller=False) for _ in range(2 * CALLS)]
    await asyncio.sleep(3)  # the reads of the first burst are used up
    for call in calls:
        world.livekit.connect_caller(call.room, call.identity)
    await asyncio.sleep(3)
    assert CALLER_EXPECTED_SECONDS > 6
    assert [current(world, call).id for call in calls if current(world, call).caller_seen_at is None] == []


async def join_all(world: World) -> None:
    """Let so many calls run that their reads need more than the bound, and wait until the bursts are used up."""
    world.livekit.slots = world.supply.free = CALLS
    for _ in range(CALLS - 1):
        await reaches(world, await open_call(world), CallState.JOINED)
    await asyncio.sleep(BURST_SECONDS)


async def test_foreign_room_is_adopted_soon_beside_many_calls(world: World) -> None:
    await join_all(world)
    await world.livekit.create_room("sip-call", "", "ornina-agent", "")
    world.livekit.connect_caller("sip-call", "sip_+963")
    await asyncio.sleep(3)
    assert "sip-call" in [call.room for call in world.gateway.ledger]


async def test_foreign_room_is_adopted_soon_beside_many_rooms_of_other_programs(world: World) -> None:
    for number in range(200):
        await world.livekit.create_room(f"their-{number}", "", "another-agent", "")
    await join_all(world)
    await world.livekit.create_room("sip-call", "", "ornina-agent", "")
    world.livekit.connect_caller("sip-call", "sip_+963")
    await asyncio.sleep(3)
    assert "sip-call" in [call.room for call in world.gateway.ledger]


async def test_unknown_rooms_raise_no_bound_of_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await join_all(world)
    for number in range(200):
        await world.livekit.create_room(f"their-{number}", "", "another-agent", "")
    await asyncio.sleep(BURST_SECONDS)
    requests = 0

    def count(name: str) -> None:
        request = getattr(FakeLiveKit, name)

        async def counted(*arguments: object) -> object:
            nonlocal requests
            requests += 1
            return await request(world.livekit, *arguments)

        monkeypatch.setattr(world.livekit, name, counted)

    for name in ("rooms", "participants", "dispatches"):
        count(name)
    seconds = 60
    for second in range(seconds):
        for number in range(3):
            hinted = f"their-{3 * second + number}"
            world.gateway.watch.hint(example_agent().spec.livekit.url, hinted, may_be_new=True)
        await asyncio.sleep(1)
    assert seconds * READS_PER_SECOND < requests <= seconds * MAX_REQUESTS_PER_SECOND + 3
