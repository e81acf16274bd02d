"""Dispatches an agent to a room that another program made, and confirms that the agent has joined.

Each request is a call from its begin: it waits in the agent's line, has a slot and an avatar seat like any other call,
and is followed to its end. The request only waits for the call's state. The room stays the other program's: the gateway
neither closes it nor changes its metadata.
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
from gateway.calls.adoption import Adopter, foreign_call, is_foreign_call
from gateway.calls.call import MESSAGES, Call, CallReason, CallState
from gateway.calls.dispatcher import Dispatcher
from gateway.calls.effects import held_name, hold_name
from gateway.calls.failures import RETRY_AFTER_SECONDS, connect, livekit_failures
from gateway.calls.ids import foreign_call_id
from gateway.calls.ledger import Ledger
from gateway.calls.step import Admission, unavailable_reason
from gateway.client import Client
from gateway.cluster.members import Members
from gateway.errors import ErrorReason, RequestError, moved
from gateway.livekit.connections import Connection, Connections
from gateway.livekit.fenced import FencedLiveKit
from gateway.livekit.server import Dispatch, LiveKit, Room, RoomMissing

LOOK_SECONDS = 1.0
"""Interval between two looks for an agent that no change of a call announces."""

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

    def __init__(
        self, connections: Connections, ledger: Ledger, dispatcher: Dispatcher, adopter: Adopter, members: Members
    ) -> None:
        self._members = members
        self._connections = connections
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._adopter = adopter
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def dispatch(self, agent: Agent, request: DispatchRequest, client: Client) -> str:
        """Return the id of the agent's dispatch in the room, once the agent has joined.

        An agent that is there, or on its way, is not dispatched again.

        Raises:
            RequestError: the agent may not join the room, or did not join within `dispatch.joinTimeoutSeconds`; 421,
                another gateway owns the agent by now.
        """
        if reason := unavailable_reason(agent):
            raise RequestError(409, ErrorReason(reason.value), MESSAGES[reason])
        _check_name(agent, request.room)
        connection = await connect(self._connections, agent)
        fields = {"agent": agent.key, "room": request.room, **client.log_fields()}
        lock = self._locks.setdefault(f"{agent.key} {request.room}", asyncio.Lock())
        with livekit_failures(agent, room=request.room, **client.log_fields()):
            try:
                async with lock:
                    dispatch_id = await self._join(connection, agent, request, client)
            except RoomMissing as error:
                message = f"The room {request.room!r} does not exist. Create the room first."
                raise RequestError(404, ErrorReason.ROOM_NOT_FOUND, message, field="room") from error
        logger.info("agent joined room of another program", extra=fields)
        return dispatch_id

    async def _join(self, connection: Connection, agent: Agent, request: DispatchRequest, client: Client) -> str:
        livekit = FencedLiveKit(connection.livekit, lambda: self._members.acts_for(agent.key))
        room = await _check_room(livekit, request.room)
        await self._end_replaced(livekit, agent, room)
        call = await self._find_call(livekit, connection, agent, room)
        if call is None:
            call = await self._open(livekit, agent, room, request, client)
        if call.agent.key != agent.key:
            return await self._join_beside(livekit, agent, room, request)
        if (current := self._ledger.get(call.id)) is None:
            raise moved()
        call = current  # an adopted call may be further by now
        if call.state is CallState.WAITING and call.needs_caller:
            self._ledger.put(replace(call, needs_caller=False))
            self._dispatcher.look(call.id)
        await self._wait_until_joined(livekit, agent, call)
        found = _find(await livekit.dispatches(room.name), call.agent_name)
        return found.id if found else ""

    def _in_room(self, agent: Agent, room: Room) -> Call | None:
        """Return the live call in a room on the agent's server."""
        return self._ledger.get(self._ledger.in_room(agent.spec.livekit.url, room.name) or "")

    async def _end_replaced(self, livekit: LiveKit, agent: Agent, room: Room) -> None:
        """End the agent's call in an earlier room of the same name, and wait for what a call in this one left to do.

        LiveKit gives a room another id also when it restarts. The agent of such a call is still in the room.
        """
        call, call_id = self._in_room(agent, room), foreign_call_id(agent.key, agent.spec.livekit.url, room.sid)
        is_other = call is not None and call.foreign and call.agent.key == agent.key and call.id != call_id
        if call is not None and is_other and not await _is_present(livekit, room.name, call.agent_name):
            await self._dispatcher.end(call, CallState.ENDED, CallReason.FINISHED)
        await self._dispatcher.settle(call_id)

    async def _find_call(self, livekit: LiveKit, connection: Connection, agent: Agent, room: Room) -> Call | None:
        """Return the call that a room has, or adopt the one that a dispatch in it is for; None: there is none."""
        dispatches = await livekit.dispatches(room.name)
        dispatch = _find(dispatches, agent.agent_name)
        if dispatch is not None and self._in_room(agent, room) is None:
            known = self._ledger.get(foreign_call_id(agent.key, agent.spec.livekit.url, room.sid))
            if dispatch.agent_name == agent.agent_name or is_foreign_call(room, known, dispatch, dispatched=False):
                return await self._adopter.adopt_foreign(agent, connection, room, dispatch, dispatches)
            # It holds the room for a caller to come, and the request begins that call itself.
            await livekit.delete_dispatch(room.name, dispatch.id)
        return self._in_room(agent, room)

    async def _open(self, livekit: LiveKit, agent: Agent, room: Room, request: DispatchRequest, client: Client) -> Call:
        """Open the call of a request: dispatch the agent when a slot is free, else put the call in the line."""
        if not self._members.acts_for(agent.key):
            raise moved()
        now, admission = time.time(), self._dispatcher.admission(agent.key)
        waits = admission is Admission.WAIT
        call = replace(
            foreign_call(agent, room, request.dispatch_metadata, now, dispatched=not waits),
            created_at=now,
            client=client,
            free_slot_known=admission is Admission.FREE_SLOT,
            needs_caller=False,
        )
        if not waits:
            call = self._dispatcher.assign_seat(call)
        self._ledger.put(call)  # before the request to LiveKit, so that no other call gets the same slot or seat
        try:
            name = hold_name(call) if waits else call.agent_name
            await livekit.create_dispatch(room.name, name, call.dispatch_metadata)
        except BaseException:
            self._ledger.remove(call.id)
            raise
        if self._ledger.get(call.id) is None:  # the agent has moved, and its new owner adopts the call
            raise moved()
        self._dispatcher.follow_new(call, self._adopter.room_of(call))
        return call

    async def _wait_until_joined(self, livekit: LiveKit, agent: Agent, call: Call) -> None:
        """Wait until the agent has joined its call.

        Raises:
            RequestError: the call is over. After the time limit, this ends it, so that no agent joins after the answer.
        """
        try:
            async with asyncio.timeout(agent.spec.dispatch.join_timeout_seconds):
                if await self._has_joined(livekit, call):
                    return
        except TimeoutError:
            await self._give_up(livekit, call)
        over = self._ledger.get(call.id)
        if over is None:
            raise moved()
        await _check_room(livekit, call.room)
        raise _refusal(over)

    async def _has_joined(self, livekit: LiveKit, call: Call) -> bool:
        """Wait until the agent of a call has joined, or the call is over; return whether the agent has joined.

        Of a call that had an agent before this request, a look into the room confirms that the agent is still there.
        """
        seen_without = False
        while (known := self._ledger.get(call.id)) is not None and known.is_live:
            if known.state is not CallState.JOINED:
                seen_without = True
            elif seen_without or await _is_present(livekit, known.room, known.agent_name):
                return True
            await self._ledger.wait_for_change(call.id, known.state, LOOK_SECONDS)
        return False

    async def _give_up(self, livekit: LiveKit, call: Call) -> None:
        """Fail a call whose agent has not joined in time, and withdraw its dispatch."""
        known = self._ledger.get(call.id) or call
        reason = CallReason.NOT_ANSWERED if known.causes else CallReason.NO_FREE_SLOT
        try:
            if any(one.accepted for one in await livekit.dispatches(call.room) if _is_for(one, call.agent_name)):
                reason = CallReason.AGENT_DID_NOT_JOIN
        finally:
            await self._dispatcher.end(call, CallState.FAILED, reason)

    async def _join_beside(self, livekit: LiveKit, agent: Agent, room: Room, request: DispatchRequest) -> str:
        """Dispatch the agent beside that of another call, which the room has, and return the id of the dispatch.

        A room has one call, so the second agent has none, and only looks into the room say when it has joined.
        """
        reason = CallReason.NO_FREE_SLOT
        try:
            async with asyncio.timeout(agent.spec.dispatch.join_timeout_seconds):
                if _find(await livekit.dispatches(room.name), agent.agent_name) is None:
                    while self._dispatcher.admission(agent.key) is Admission.WAIT:  # noqa: ASYNC110 - several counts
                        await asyncio.sleep(LOOK_SECONDS)
                    await livekit.create_dispatch(room.name, agent.agent_name, request.dispatch_metadata)
                reason = CallReason.NOT_ANSWERED
                # ruff takes the request in the condition for a variable.
                while not await _is_present(livekit, room.name, agent.agent_name):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
                found = _find(await livekit.dispatches(room.name), agent.agent_name)
                return found.id if found else ""
        except TimeoutError:
            for one in await livekit.dispatches(room.name):
                if _is_for(one, agent.agent_name):
                    reason = CallReason.AGENT_DID_NOT_JOIN if one.accepted else reason
                    await livekit.delete_dispatch(room.name, one.id)
        raise _not_joined(reason)


def _refusal(call: Call) -> RequestError:
    """Return the answer about a call that is over without its agent."""
    match call.reason:
        case CallReason.SUSPENDED | CallReason.NAME_TAKEN:
            return RequestError(409, ErrorReason(call.reason.value), call.message)
        case CallReason.AGENT_NOT_FOUND:
            return RequestError(404, ErrorReason.AGENT_NOT_FOUND, call.message)
        case CallReason.NO_FREE_SLOT | CallReason.NOT_ANSWERED:
            return _not_joined(call.reason)
        case _:
            return _not_joined(CallReason.AGENT_DID_NOT_JOIN if call.causes else CallReason.NO_FREE_SLOT)


def _not_joined(reason: CallReason) -> RequestError:
    known = ErrorReason(reason.value)
    return RequestError(503, known, _MESSAGES[known], retry_after_seconds=RETRY_AFTER_SECONDS)


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


def _find(dispatches: list[Dispatch], agent_name: str) -> Dispatch | None:
    """Return the dispatch to an agent, or else the one that holds its waiting call."""
    found = [one for one in dispatches if _is_for(one, agent_name)]
    return min(found, key=lambda one: one.agent_name != agent_name, default=None)


def _is_for(dispatch: Dispatch, agent_name: str) -> bool:
    return agent_name in (dispatch.agent_name, held_name(dispatch.agent_name))


async def _is_present(livekit: LiveKit, room: str, agent_name: str) -> bool:
    return any(one.agent_name == agent_name for one in await livekit.participants(room))
