"""Dispatches an agent to a room that another program made, and confirms that the agent has joined.

The dispatch is a call from its begin: it has a slot and an avatar seat like any other, and is followed to its end. The
room stays the other program's: the gateway neither closes it nor changes its metadata.
"""

import asyncio
import json
import logging
import time
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from pydantic import Field, field_validator

from agentspec.model import Model
from agentspec.roompattern import MAX_ROOM_NAME_BYTES, RoomPatternInvalid, compile_pattern
from agentspec.wire import read_dispatch_metadata, read_room_record
from gateway.agents import Agent
from gateway.calls.adoption import foreign_call
from gateway.calls.call import MESSAGES, CallReason
from gateway.calls.dispatcher import Dispatcher
from gateway.calls.effects import held_name
from gateway.calls.failures import RETRY_AFTER_SECONDS, connect, livekit_failures
from gateway.calls.ids import foreign_call_id
from gateway.calls.ledger import Ledger
from gateway.calls.step import Admission, unavailable_reason
from gateway.client import Client
from gateway.cluster.members import Members
from gateway.errors import ErrorReason, RequestError
from gateway.livekit.connections import Connections
from gateway.livekit.fenced import FencedLiveKit
from gateway.livekit.server import Dispatch, LiveKit, Room, RoomMissing

POLL_SECONDS = 0.2
"""Interval between two looks for a free slot, or for the agent in the room."""

_MESSAGES = {
    ErrorReason.NO_FREE_SLOT: MESSAGES[CallReason.NO_FREE_SLOT],
    ErrorReason.NOT_ANSWERED: MESSAGES[CallReason.NOT_ANSWERED],
    ErrorReason.AGENT_DID_NOT_JOIN: "A worker accepted the dispatch and did not join the room in time. See the "
    "workers' logs.",
}

logger = logging.getLogger(__name__)


class DispatchRequest(Model):
    """A request for an agent in a room that exists."""

    room: str = Field(min_length=1, max_length=MAX_ROOM_NAME_BYTES, description="Name of the LiveKit room.")
    agent: str = Field(
        default="",
        max_length=320,
        description="The agent, as NAME or NAMESPACE/NAME. Not needed when the request may call only one agent.",
    )
    metadata: dict[str, Any] | str = Field(
        default_factory=dict,
        description="Dispatch metadata: `user_id`, `language`, `capabilities`, and facts about the call by name.",
    )

    @field_validator("metadata")
    @classmethod
    def _foreign(cls, value: dict[str, Any] | str) -> dict[str, Any] | str:
        if read_dispatch_metadata(_text(value))[0].is_from_gateway:
            raise ValueError("callID is reserved for the gateway's own calls; remove it")
        return value

    @property
    def dispatch_metadata(self) -> str:
        """The dispatch metadata, as the agent reads it."""
        return _text(self.metadata)


def _text(metadata: dict[str, Any] | str) -> str:
    if isinstance(metadata, str):
        return metadata
    return json.dumps(metadata, ensure_ascii=False) if metadata else ""


class RoomDispatcher:
    """Dispatches agents to rooms of other programs, one request for a room at a time."""

    def __init__(self, connections: Connections, ledger: Ledger, dispatcher: Dispatcher, members: Members) -> None:
        self._members = members
        self._connections = connections
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def dispatch(self, agent: Agent, request: DispatchRequest, client: Client) -> str:
        """Return the id of the agent's dispatch in the room, once the agent has joined.

        An agent that is there, or on its way, is not dispatched again.

        Raises:
            RequestError: the agent may not join the room, or did not join within `dispatch.joinTimeoutSeconds`.
        """
        if reason := unavailable_reason(agent):
            raise RequestError(409, ErrorReason(reason.value), MESSAGES[reason])
        _check_name(agent, request.room)
        reached = (await connect(self._connections, agent)).livekit
        livekit = FencedLiveKit(reached, lambda: self._members.acts_for(agent.key))
        fields = {"agent": agent.key, "room": request.room, **client.log_fields()}
        lock = self._locks.setdefault(f"{agent.key} {request.room}", asyncio.Lock())
        with livekit_failures(agent, room=request.room, **client.log_fields()):
            try:
                async with lock:
                    dispatch_id = await self._join(livekit, agent, request, client)
            except RoomMissing as error:
                message = f"The room {request.room!r} does not exist. Create the room first."
                raise RequestError(404, ErrorReason.ROOM_NOT_FOUND, message, field="room") from error
        logger.info("agent joined room of another program", extra=fields)
        return dispatch_id

    async def _join(self, livekit: LiveKit, agent: Agent, request: DispatchRequest, client: Client) -> str:
        room = await _check_room(livekit, request.room)
        reason = ErrorReason.NO_FREE_SLOT
        try:
            async with asyncio.timeout(agent.spec.dispatch.join_timeout_seconds):
                await self._release(livekit, agent, room)
                dispatch_id = await _find(livekit, agent, request.room)
                if not dispatch_id:
                    await self._dispatch(livekit, agent, room, request, client)
                    dispatch_id = await _find(livekit, agent, request.room)
                reason = ErrorReason.NOT_ANSWERED
                await _wait_for_agent(livekit, agent, request.room)
                return await _find(livekit, agent, request.room) or dispatch_id
        except TimeoutError:
            if await self._withdraw(livekit, agent, request.room):
                reason = ErrorReason.AGENT_DID_NOT_JOIN
        raise RequestError(503, reason, _MESSAGES[reason], retry_after_seconds=RETRY_AFTER_SECONDS)

    async def _release(self, livekit: LiveKit, agent: Agent, room: Room) -> None:
        """Withdraw the dispatch that holds the room for another caller: the request begins that call itself."""
        known = self._ledger.get(foreign_call_id(agent.key, agent.spec.livekit.url, room.sid))
        if known is None or not known.may_begin_again:
            return
        for one in await livekit.dispatches(room.name):
            if held_name(one.agent_name) == agent.agent_name:
                await livekit.delete_dispatch(room.name, one.id)

    async def _dispatch(
        self, livekit: LiveKit, agent: Agent, room: Room, request: DispatchRequest, client: Client
    ) -> None:
        """Wait for a slot, and dispatch the agent as a call of this gateway."""
        while (admission := self._dispatcher.admission(agent.key)) is Admission.WAIT:  # noqa: ASYNC110 - several counts
            await asyncio.sleep(POLL_SECONDS)
        if self._ledger.in_room(agent.spec.livekit.url, room.name):  # a room has one call, and this one is another's
            return await livekit.create_dispatch(room.name, agent.agent_name, request.dispatch_metadata)
        now = time.time()
        call = replace(
            foreign_call(agent, room, request.dispatch_metadata, now, dispatched=True),
            created_at=now,
            client=client,
            free_slot_known=admission is Admission.FREE_SLOT,
        )
        call = self._dispatcher.assign_seat(call)
        self._ledger.put(call)  # before the request to LiveKit, so that no other call gets the same slot or seat
        try:
            await livekit.create_dispatch(room.name, agent.agent_name, call.dispatch_metadata)
        except BaseException:
            self._ledger.remove(call.id)
            raise
        if self._ledger.get(call.id) is not None:  # else the agent has moved, and its new owner adopts the call
            self._dispatcher.follow_new(call)

    async def _withdraw(self, livekit: LiveKit, agent: Agent, room: str) -> bool:
        """Withdraw the dispatch, so that no agent joins after the answer. Return whether a worker had accepted it."""
        found = [one for one in await livekit.dispatches(room) if _is_for(one, agent)]
        call = self._ledger.get(self._ledger.in_room(agent.spec.livekit.url, room) or "")
        if call is not None and call.agent.key == agent.key:
            await self._dispatcher.hang_up(call)
        else:
            for one in found:
                await livekit.delete_dispatch(room, one.id)
        return any(one.accepted for one in found)


def _check_name(agent: Agent, room: str) -> None:
    pattern = agent.spec.dispatch.room_name_pattern
    try:
        if compile_pattern(pattern).search(room):
            return
    except RoomPatternInvalid as error:
        message = f"The agent {agent.name} takes no calls because of its roomNamePattern {pattern!r}: {error}."
        raise RequestError(409, ErrorReason.ROOM_NAME_MISMATCH, message) from error
    message = f"The agent {agent.name} serves no room named {room!r}: its roomNamePattern is {pattern!r}."
    raise RequestError(400, ErrorReason.ROOM_NAME_MISMATCH, message, field="room")


async def _check_room(livekit: LiveKit, room: str) -> Room:
    """Return the room. Raise `RoomMissing` without one, and `RequestError` when it is a call of a gateway."""
    rooms = await livekit.rooms([room])
    if not rooms:
        raise RoomMissing(f"no room {room}")
    if read_room_record(rooms[0].metadata) is not None:
        message = f"The room {room!r} is a call of the gateway, and has its agent."
        raise RequestError(409, ErrorReason.ROOM_TAKEN, message, field="room")
    return rooms[0]


async def _find(livekit: LiveKit, agent: Agent, room: str) -> str:
    """Return the id of the agent's dispatch in a room; empty without one."""
    return next((one.id for one in await livekit.dispatches(room) if _is_for(one, agent)), "")


async def _wait_for_agent(livekit: LiveKit, agent: Agent, room: str) -> None:
    # ruff takes the request in the condition for a variable.
    while not any(one.agent_name == agent.agent_name for one in await livekit.participants(room)):  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)


def _is_for(dispatch: Dispatch, agent: Agent) -> bool:
    """Whether a dispatch is for the agent, or holds the agent's waiting call in the room."""
    return agent.agent_name in (dispatch.agent_name, held_name(dispatch.agent_name))
