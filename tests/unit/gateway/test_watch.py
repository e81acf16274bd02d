"""Which rooms are read, and when, with LiveKit in memory and in virtual time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.calls.call import Call, CallState, Cause
from gateway.calls.reads import READS_PER_SECOND
from gateway.calls.step import AGENT_GRACE_SECONDS
from gateway.livekit.server import Participant
from tests.unit.gateway.fakes import World, create_world
from tests.unit.gateway.scenes import current, open_call, reaches

pytestmark = pytest.mark.usefixtures("virtual_clock")

CALLS = 21
TURN_SECONDS = CALLS / READS_PER_SECOND
"""How long it takes to read the rooms of all calls in their turn."""


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
    await asyncio.sleep(AGENT_GRACE_SECONDS + 3)
    assert Cause.AGENT_LOST in current(world, call).causes
