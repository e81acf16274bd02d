"""What a decision about a call changes in LiveKit: dispatches, agents and rooms."""

from collections.abc import Iterable

from agentspec.wire import RoomRecord, render
from gateway.calls.call import Call, CallState
from gateway.calls.ids import foreign_call_id
from gateway.livekit.server import WAITING_AGENT_NAME, LiveKit, RoomMissing


def record_of(call: Call) -> RoomRecord:
    """Return the record that the room of a call has in its metadata."""
    return RoomRecord(
        call_id=call.id,
        agent=call.agent.key,
        identity=call.identity,
        created_at=call.created_at,
        request_hash=call.request_hash,
        agent_name=call.agent_name,
        call_token_hash=call.call_token_hash,
    )


async def dispatch(livekit: LiveKit, call: Call, ghosts: Iterable[str]) -> None:
    """Withdraw every earlier dispatch, remove agents whose worker is lost, and dispatch the agent."""
    await remove_agents(livekit, call, ghosts)
    await _redispatch(livekit, call, call.agent_name)


async def hold(livekit: LiveKit, call: Call) -> None:
    """Withdraw every dispatch; the call waits again."""
    await _redispatch(livekit, call, "")


async def close(livekit: LiveKit, call: Call) -> None:
    """Close the room of a call, so that no late agent stays in an empty room.

    A foreign room loses its agent only. It is held when its caller has not come, so that a later one gets an agent.
    """
    try:
        if not call.foreign:
            return await livekit.delete_room(call.room)
        rooms = await livekit.rooms([call.room])
        if not rooms:  # LiveKit would take 3 s to say so, and call it a server error
            return
        if foreign_call_id(call.agent.key, call.server, rooms[0].sid) != call.id:
            return  # another room of the same name, and of another call
        if call.may_begin_again:
            return await hold(livekit, call)
        for one in await livekit.dispatches(call.room):
            if one.agent_name in (call.agent_name, hold_name(call)):
                await livekit.delete_dispatch(call.room, one.id)
    except RoomMissing:
        return


async def restore(livekit: LiveKit, call: Call) -> None:
    """Write the room record again, and the dispatch that holds a waiting call: a restart of LiveKit loses both."""
    await livekit.set_metadata(call.room, render(record_of(call)))
    if call.state is CallState.WAITING:
        await hold(livekit, call)


def hold_name(call: Call) -> str:
    """Return the name of the dispatch that holds the call while it waits.

    A foreign room has no record that says whose call it is, so the name does.
    """
    return f"{WAITING_AGENT_NAME}:{call.agent_name}" if call.foreign else WAITING_AGENT_NAME


def held_name(dispatched_to: str) -> str:
    """Return the agent name of a foreign call that such a dispatch holds; empty: it holds none."""
    name, _, agent_name = dispatched_to.rpartition(":")
    return agent_name if name == WAITING_AGENT_NAME else ""


async def remove_agents(livekit: LiveKit, call: Call, identities: Iterable[str]) -> None:
    """Remove agents from the room. Those that have left are no error."""
    for identity in identities:
        try:
            await livekit.remove_participant(call.room, identity)
        except RoomMissing:
            continue


async def _redispatch(livekit: LiveKit, call: Call, agent_name: str) -> None:
    """Leave exactly one dispatch of this call in an existing room: one for the agent, or one that holds the call.

    The agent's old dispatches are deleted first, so that no two agents join. Meanwhile the dispatch that holds the call
    has the metadata, so that it survives when the gateway stops in between. A foreign room's other dispatches stay.
    """
    holding = hold_name(call)
    found = await livekit.dispatches(call.room)
    if not any(one.agent_name == holding for one in found):
        await livekit.create_dispatch(call.room, holding, call.dispatch_metadata)
    for one in found:
        if one.agent_name == call.agent_name or (not call.foreign and one.agent_name != holding):
            await livekit.delete_dispatch(call.room, one.id)
    if not agent_name:
        return
    await livekit.create_dispatch(call.room, agent_name, call.dispatch_metadata)
    for one in await livekit.dispatches(call.room):
        if one.agent_name == holding:
            await livekit.delete_dispatch(call.room, one.id)
