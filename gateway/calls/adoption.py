"""Makes calls of rooms that this gateway did not open: those of a stopped gateway, and those of other programs.

A room with a room record is a gateway's call: it comes from a gateway that stopped, or from a caller who joined with a
token of the token endpoint. A room without one becomes a call when its dispatch names a declared agent: a SIP dispatch
rule, a token with a room configuration, or another back end made it. Such a foreign call waits for a slot like any
other, and its agent is dispatched again when it is lost. It ends when nobody comes, and its room is then held: whoever
enters the room later begins another call.
"""

import logging
import time
from dataclasses import replace

from agentspec import DispatchMode
from agentspec.wire import RoomRecord, read_dispatch_metadata, read_room_record
from gateway.agents import Agent, AgentDirectory
from gateway.calls.call import Call, CallState, Cause
from gateway.calls.dispatcher import Dispatcher
from gateway.calls.effects import held_name
from gateway.calls.ids import foreign_call_id
from gateway.calls.ledger import Ledger
from gateway.calls.reports import WorkerReports
from gateway.calls.room import CallRoom
from gateway.calls.step import CONNECT_TIMEOUT_SECONDS, SEARCH_TIMEOUT_SECONDS
from gateway.cluster.members import Members
from gateway.livekit.connections import Connection, Connections, SecretError
from gateway.livekit.server import Dispatch, LiveKitError, Room, RoomMissing

YOUNG_SECONDS = 60.0
"""A room without a call may get a dispatch soon after its creation, so it is offered again often while it is young."""
NEW_SECONDS = 10.0
"""A call in a younger room begins now. One in an older room was another gateway's, which counted it."""
OFFER_SECONDS = 5.0
OLD_OFFER_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Adopter:
    """Makes calls of rooms that the ledger does not have."""

    def __init__(
        self,
        agents: AgentDirectory,
        connections: Connections,
        ledger: Ledger,
        dispatcher: Dispatcher,
        reports: WorkerReports,
        members: Members,
    ) -> None:
        self._agents = agents
        self._connections = connections
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._reports = reports
        self._members = members

    def is_elsewhere(self, room: Room) -> bool:
        """Return whether a room is a call of an agent that another gateway owns."""
        record = read_room_record(room.metadata)
        return record is not None and not self._members.owns(record.agent)

    async def offer(self, connection: Connection, server: str, room: Room) -> float:
        """Make a call of a room if it is one. Return after how many seconds to offer it again if it is none."""
        record = read_room_record(room.metadata)
        try:
            if record is not None:
                return await self._adopt_recorded(room, record)
            return await self._adopt_foreign(connection, server, room)
        except (LiveKitError, SecretError) as error:
            logger.warning("could not adopt call", extra={"room": room.name, "error": str(error)})
            return OFFER_SECONDS

    async def _adopt_recorded(self, room: Room, record: RoomRecord) -> float:
        namespace, _, name = record.agent.partition("/")
        agent = self._agents.get(namespace, name)
        if not isinstance(agent, Agent) or self._known(record.call_id, room.created_at) is not None:
            return OFFER_SECONDS
        if not self._members.acts_for(agent.key):
            return 0.0
        await self.adopt(agent, await self._connections.open(agent), room, record)
        return 0.0

    async def adopt(self, agent: Agent, connection: Connection, room: Room, record: RoomRecord) -> Call | None:
        """Adopt the call that a room record is about; None when the room is closed.

        Raises:
            LiveKitError: the room could not be read.
        """
        if (known := self._known(record.call_id, room.created_at)) is not None:
            return known
        try:
            dispatches = await connection.livekit.dispatches(room.name)
        except RoomMissing:
            return None
        call = _adopted(agent, room, record, dispatches, time.time())
        return await self._follow(call, connection, dispatches, is_new=record.from_token and _is_new(call))

    def _known(self, call_id: str, created_at: float) -> Call | None:
        """Return the call with this id of a room that was created at this time, if the ledger has it.

        A caller who uses a token again after the call is over makes a new room with the same record. Its call is new.
        """
        known = self._ledger.get(call_id)
        return known if known is not None and (known.is_live or created_at <= known.state_since) else None

    async def _adopt_foreign(self, connection: Connection, server: str, room: Room) -> float:
        now = time.time()
        wait = OFFER_SECONDS if now - room.created_at < YOUNG_SECONDS else OLD_OFFER_SECONDS
        by_name = {agent.agent_name: agent for agent in self._explicit_agents(server)}
        try:
            dispatches = await connection.livekit.dispatches(room.name) if by_name else []
        except RoomMissing:
            return wait
        for dispatch in dispatches:
            agent = by_name.get(held_name(dispatch.agent_name) or dispatch.agent_name)
            if agent is None or not self._members.acts_for(agent.key):
                continue
            known = self._ledger.get(foreign_call_id(agent.key, server, room.sid))
            if known is not None:
                wait = OFFER_SECONDS  # the other program may soon dispatch the agent again
            if is_foreign_call(room, known, dispatch, dispatched=dispatch.agent_name == agent.agent_name):
                await self.adopt_foreign(agent, await self._connections.open(agent), room, dispatch, dispatches)
                return wait
        return wait

    async def adopt_foreign(
        self, agent: Agent, connection: Connection, room: Room, dispatch: Dispatch, dispatches: list[Dispatch]
    ) -> Call:
        """Adopt the call that a dispatch in another program's room is for. ``dispatches``: all of the room.

        Raises:
            LiveKitError: the room could not be read.
        """
        now, dispatched = time.time(), dispatch.agent_name == agent.agent_name
        call = foreign_call(agent, room, dispatch.metadata, now, dispatched=dispatched)
        # A room that is held for longer than any call waits is held for a caller who comes only now.
        is_late = not dispatched and 0 < dispatch.created_at < now - SEARCH_TIMEOUT_SECONDS
        if is_late or self._ledger.get(call.id) is not None:  # the last call in the room is over, this one begins now
            call = replace(call, created_at=now)
        return await self._follow(call, connection, dispatches, is_new=_is_new(call))

    def room_of(self, call: Call) -> CallRoom:
        """Return what is known of the room of a call that begins now. Jobs of earlier calls say nothing about it."""
        room = CallRoom(call.identity, call.agent_name)
        self._reports.apply_to(room, call.agent.key, call.room, is_repeat=True)
        return room

    def _explicit_agents(self, server: str) -> list[Agent]:
        return [
            agent
            for agent in self._agents.all()
            if isinstance(agent, Agent)
            and agent.spec.livekit.url == server
            and agent.spec.dispatch.mode is DispatchMode.EXPLICIT
            and not agent.name_taken
        ]

    async def _follow(self, call: Call, connection: Connection, dispatches: list[Dispatch], *, is_new: bool) -> Call:
        """Find out how far a call is, and follow it. ``is_new``: it counts as opened."""
        now = time.time()
        room = CallRoom(call.identity, call.agent_name)
        room.participants(await connection.livekit.participants(call.room), now)
        room.accepted = any(one.accepted for one in dispatches if one.agent_name == call.agent_name)
        # An earlier room may have had the same name, and another id.
        is_repeat = is_new or self._ledger.get(call.id) is not None
        self._reports.apply_to(room, call.agent.key, call.room, is_repeat=is_repeat)
        if room.agents:
            call = replace(call, state=CallState.JOINED, state_since=call.created_at, agent_seen_at=now)
        if (known := self._known(call.id, call.created_at)) is not None:
            return known  # a request with the call's idempotency key adopted it meanwhile
        if not self._members.acts_for(call.agent.key):
            return call  # its agent has moved meanwhile, and the new owner adopts it
        self._ledger.put(call)
        if is_new:
            self._dispatcher.follow_new(call, room)
        else:
            fields = {"call_id": call.id, "room": call.room, "agent": call.agent.key, "state": call.state.value}
            logger.info("call adopted", extra=fields)
            self._dispatcher.follow(call, room)
        return call


def _is_new(call: Call) -> bool:
    return time.time() - call.created_at < NEW_SECONDS


def _adopted(agent: Agent, room: Room, record: RoomRecord, dispatches: list[Dispatch], now: float) -> Call:
    dispatched = any(one.agent_name == record.agent_name for one in dispatches)
    # Whoever joins with a token makes the room. Another caller may still be on the way.
    may_come = not record.from_token and now - record.created_at < CONNECT_TIMEOUT_SECONDS
    return Call(
        id=record.call_id,
        agent=agent,
        agent_name=record.agent_name,
        room=room.name,
        identity=record.identity,
        request_hash=record.request_hash,
        call_token_hash=record.call_token_hash,
        dispatch_metadata=next((one.metadata for one in dispatches if one.metadata), ""),
        state=CallState.DISPATCHED if dispatched else CallState.WAITING,
        # A token is issued some time before its caller joins, and so creates the room.
        created_at=(room.created_at or now) if record.from_token else record.created_at,
        search_started_at=now,
        state_since=now,
        caller_seen_at=None if may_come else now,
        causes=(Cause.FIRST,) if dispatched else (),
    )


def is_foreign_call(room: Room, known: Call | None, dispatch: Dispatch, *, dispatched: bool) -> bool:
    """Return whether a foreign room with a dispatch of an agent is a call of the agent, and not a call that is over.

    ``known`` is the last call in the room; None: there was none, or it is forgotten. A room that is only held, for
    example because nobody came, is a call as soon as somebody enters it. A dispatch that is newer than the end of the
    last call begins another one.
    """
    if known is not None and (known.is_live or known.may_begin_again or dispatch.created_at <= known.state_since):
        return known.may_begin_again and room.participants > 0
    return dispatched or room.participants > 0


def foreign_call(agent: Agent, room: Room, dispatch_metadata: str, now: float, *, dispatched: bool) -> Call:
    """Return the call of an agent in a room that another program made. It waits unless the agent is dispatched.

    Nobody knows yet whether its caller has come: a back end may dispatch the agent first.
    """
    return Call(
        id=foreign_call_id(agent.key, agent.spec.livekit.url, room.sid),
        agent=agent,
        agent_name=agent.agent_name,
        room=room.name,
        identity="",
        request_hash="",
        call_token_hash="",
        dispatch_metadata=dispatch_metadata,
        state=CallState.DISPATCHED if dispatched else CallState.WAITING,
        created_at=room.created_at or now,
        search_started_at=now,
        state_since=now,
        causes=(Cause.FIRST,) if dispatched else (),
        avatar=read_dispatch_metadata(dispatch_metadata)[0].avatar,
        foreign=True,
    )
