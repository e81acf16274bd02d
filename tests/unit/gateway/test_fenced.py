"""A gateway that may not act changes nothing in LiveKit."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.calls.call import CallState
from gateway.cluster.members import Members
from gateway.livekit.fenced import Fenced, FencedLiveKit
from tests.unit.gateway.fakes import FakeLiveKit, create_world
from tests.unit.gateway.replicas import now
from tests.unit.gateway.scenes import open_call, reaches

ROOM = "ornina-1"

CHANGES: dict[str, Callable[[FencedLiveKit], Awaitable[None]]] = {
    "create_room": lambda livekit: livekit.create_room("ornina-2", "", "agent", ""),
    "create_dispatch": lambda livekit: livekit.create_dispatch(ROOM, "agent", ""),
    "delete_dispatch": lambda livekit: livekit.delete_dispatch(ROOM, "AD_0"),
    "remove_participant": lambda livekit: livekit.remove_participant(ROOM, "agent-1"),
    "set_metadata": lambda livekit: livekit.set_metadata(ROOM, "{}"),
    "delete_room": lambda livekit: livekit.delete_room(ROOM),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_every_change_is_refused_while_the_gateway_may_not_act(
    change: Callable[[FencedLiveKit], Awaitable[None]],
) -> None:
    livekit = FakeLiveKit()
    await livekit.create_room(ROOM, "", "agent", "")
    launches, allowed = list(livekit.launches), False
    fenced = FencedLiveKit(livekit, lambda: allowed)
    with pytest.raises(Fenced):
        await change(fenced)
    assert (list(livekit.rooms_by_name), livekit.launches) == ([ROOM], launches)
    assert livekit.rooms_by_name[ROOM].metadata == ""
    assert [room.name for room in await fenced.rooms()] == [ROOM]
    assert await fenced.participants(ROOM) == []
    assert len(await fenced.dispatches(ROOM)) == 1
    allowed = True
    await change(fenced)


@pytest.mark.usefixtures("virtual_clock")
async def test_waiting_call_is_dispatched_only_once_the_gateway_may_act_again() -> None:
    members = Members("a", "10.0.0.1:8082", clock=now)
    members.received([members.me], now())
    world = create_world(members=members)
    world.supply.free = 0
    call = await open_call(world)
    allowed = False
    members.may_act = lambda: allowed  # type: ignore[method-assign]
    world.supply.free = 1
    launches = list(world.livekit.launches)
    for _ in range(20):
        await asyncio.sleep(0.5)
        world.gateway.dispatcher.wake_waiting_calls()
    found = world.gateway.ledger.get(call.id)
    assert found is not None
    assert (found.state, found.causes) == (CallState.WAITING, ())
    assert world.livekit.launches == launches
    allowed = True
    await reaches(world, call, CallState.JOINED)
    await world.gateway.dispatcher.stop()
