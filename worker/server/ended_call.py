"""The room of a call that the main process ends: informs the caller, and closes the room.

A call does the same when it ends itself (`worker.call.call`).
"""

import asyncio
import logging
from typing import Final

import aiohttp
from livekit import api
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

from agentspec.wire import CallOutcome, agent_identity, read_room_record, with_outcome
from worker.call import budget
from worker.call.caller import Caller

logger = logging.getLogger(__name__)

_CALLER_KINDS: Final = frozenset(map(int, Caller.KINDS))
_FAILURES: Final = (api.TwirpError, aiohttp.ClientError, TimeoutError, ValueError)


async def record_outcome(livekit: api.LiveKitAPI, room: str, outcome: CallOutcome) -> None:
    """Record in a gateway's room why the call ends, so that the gateway tells the caller. Never raises."""
    try:
        await asyncio.wait_for(_record(livekit, room, outcome), budget.RECORD_SECONDS)
    except _FAILURES as error:
        logger.warning("could not record the outcome in the room", extra={"room": room, "error": type(error).__name__})


async def close(livekit: api.LiveKitAPI, room: str, *, agent_follows: bool) -> None:
    """Close the room unless others than the caller are in it. Never raises.

    With `agent_follows`, a gateway's room stays: the gateway sends another agent.
    """
    try:
        await asyncio.wait_for(_close(livekit, room, agent_follows), budget.DELETE_SECONDS)
    except _FAILURES as error:
        logger.warning("could not delete the room", extra={"room": room, "error": type(error).__name__})


async def remove_agent(livekit: api.LiveKitAPI, room: str, job_id: str) -> None:
    """Remove the agent of a process that was killed, and its avatar, from the room. Never raises.

    LiveKit would keep the agent for 20 s, and so long no gateway would send another agent to the caller. A provider may
    keep the avatar longer, and there is no other way to end that of a plugin.
    """
    try:
        await asyncio.wait_for(_remove_agent(livekit, room, agent_identity(job_id)), budget.DELETE_SECONDS)
    except _FAILURES as error:
        logger.warning("could not remove the lost agent", extra={"room": room, "error": type(error).__name__})


async def _remove_agent(livekit: api.LiveKitAPI, room: str, agent: str) -> None:
    await _remove(livekit, room, agent)
    answer = await livekit.room.list_participants(api.ListParticipantsRequest(room=room))
    for participant in answer.participants:
        if participant.attributes.get(ATTRIBUTE_PUBLISH_ON_BEHALF) == agent:
            await _remove(livekit, room, participant.identity)


async def _remove(livekit: api.LiveKitAPI, room: str, identity: str) -> None:
    """Remove a participant, unless it has left."""
    try:
        await livekit.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=identity))
    except api.TwirpError as error:
        if error.code != api.TwirpErrorCode.NOT_FOUND:
            raise


async def _record(livekit: api.LiveKitAPI, room: str, outcome: CallOutcome) -> None:
    metadata = await _metadata(livekit, room)
    if metadata is not None and read_room_record(metadata) is not None:
        update = api.UpdateRoomMetadataRequest(room=room, metadata=with_outcome(metadata, outcome))
        await livekit.room.update_room_metadata(update)


async def _close(livekit: api.LiveKitAPI, room: str, agent_follows: bool) -> None:
    metadata = await _metadata(livekit, room)
    if metadata is None or (agent_follows and read_room_record(metadata) is not None):
        return
    answer = await livekit.room.list_participants(api.ListParticipantsRequest(room=room))
    if sum(map(_may_be_caller, answer.participants)) <= 1:
        await livekit.room.delete_room(api.DeleteRoomRequest(room=room))


async def _metadata(livekit: api.LiveKitAPI, room: str) -> str | None:
    """Return the room's metadata; None when the room does not exist."""
    rooms = (await livekit.room.list_rooms(api.ListRoomsRequest(names=[room]))).rooms
    return rooms[0].metadata if rooms else None


def _may_be_caller(participant: api.ParticipantInfo) -> bool:
    return int(participant.kind) in _CALLER_KINDS and ATTRIBUTE_PUBLISH_ON_BEHALF not in participant.attributes
