"""Opens calls for requests. Equal requests get the same call, and each room is created with exactly one dispatch."""

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

from agentspec.roompattern import RoomPatternInvalid, room_name
from agentspec.wire import read_room_record, render
from gateway.agents import Agent
from gateway.calls import effects
from gateway.calls.adoption import Adopter
from gateway.calls.call import MESSAGES, Call, CallState, Cause
from gateway.calls.dispatcher import Dispatcher
from gateway.calls.failures import RETRY_AFTER_SECONDS, connect, livekit_failures
from gateway.calls.ids import call_id_for, new_call_id
from gateway.calls.ledger import Ledger
from gateway.calls.request import CallRequest
from gateway.calls.step import Admission, unavailable_reason
from gateway.client import Client
from gateway.cluster.members import Members
from gateway.errors import ErrorReason, RequestError, moved
from gateway.livekit.connections import Connection, Connections
from gateway.livekit.server import LiveKitRefused
from gateway.livekit.tokens import call_token, fingerprint

ADOPTION_SECONDS = 4.0
"""A gateway finds the calls of an agent within this time after it has become its owner."""
ADOPTION_POLL_SECONDS = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedCall:
    """A call and the connection to its LiveKit server."""

    call: Call
    connection: Connection
    created: bool
    """This request opened the call; False: an equal earlier request did."""


class CallOpener:
    """Opens calls."""

    def __init__(
        self,
        connections: Connections,
        ledger: Ledger,
        dispatcher: Dispatcher,
        adopter: Adopter,
        members: Members,
        max_pending: int,
    ) -> None:
        self._members = members
        self._connections = connections
        self._adopter = adopter
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._max_pending = max_pending
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def connect(self, agent: Agent) -> Connection:
        """Return the connection to the agent's LiveKit server.

        Raises:
            RequestError: 503, the credentials are missing.
        """
        return await connect(self._connections, agent)

    async def open(
        self,
        agent: Agent,
        request: CallRequest,
        client: Client,
        idempotency_key: str | None,
        *,
        traceparent: str = "",
    ) -> OpenedCall:
        """Open the call for a request, or return the call that an equal request opened.

        Equal idempotency keys of clients with different scopes are different. `traceparent`: the trace context of the
        request; empty: it has none.

        Raises:
            RequestError: no call can be opened; the message says why and what to do.
        """
        call_id = call_id_for(agent.key, client.scope, idempotency_key) if idempotency_key else new_call_id(agent.key)
        lock = self._locks.setdefault(call_id, asyncio.Lock())
        repeatable = idempotency_key is not None
        # The second of two concurrent equal requests finds the call of the first.
        with livekit_failures(agent, call_id=call_id, **client.log_fields()):
            async with lock:
                attempt = partial(self._open, agent, request, client, call_id, traceparent, repeatable=repeatable)
                try:
                    return await attempt()
                except LiveKitRefused:  # the key may have been rotated; the retry reads the Secret again
                    return await attempt()

    async def wait_for_adoption(self, call_id: str) -> None:
        """Wait until this gateway follows a call, if it may find it yet: it has owned the agent for a short time."""
        # The ledger signals changes of calls that it has.
        while self._ledger.get(call_id) is None and self._members.seconds_since_change() < ADOPTION_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(ADOPTION_POLL_SECONDS)

    async def _open(
        self, agent: Agent, request: CallRequest, client: Client, call_id: str, traceparent: str, *, repeatable: bool
    ) -> OpenedCall:
        room = self._room(agent, call_id)
        connection = await self.connect(agent)
        existing = self._ledger.get(call_id)
        if existing is None and repeatable:
            existing = await self._find_in_livekit(agent, connection, room)
        if existing is not None:
            if existing.request_hash != request.digest():
                message = "This Idempotency-Key belongs to a different request. Use a new key for a new call."
                raise RequestError(409, ErrorReason.IDEMPOTENCY_KEY_REUSED, message)
            if not existing.is_live:
                message = f"The call of this Idempotency-Key is over ({existing.reason}). Use a new key for a new call."
                raise RequestError(409, ErrorReason.CALL_OVER, message)
            return OpenedCall(existing, connection, created=False)
        if reason := unavailable_reason(agent):
            raise RequestError(409, ErrorReason(reason.value), MESSAGES[reason])
        if not self._members.acts_for(agent.key):
            raise moved()
        call = self._new_call(agent, request, client, call_id, room, connection, traceparent)
        self._ledger.put(call)  # before the request to LiveKit, so that no other call gets the same slot
        try:
            await self._create_room(connection, call)
        except BaseException:
            self._ledger.remove(call.id)
            raise
        if self._ledger.get(call.id) is not None:  # else the agent has moved, and its new owner adopts the call
            self._dispatcher.follow_new(call)
        return OpenedCall(call, connection, created=True)

    def _room(self, agent: Agent, call_id: str) -> str:
        pattern = agent.spec.dispatch.room_name_pattern
        try:
            return room_name(pattern, call_id)
        except RoomPatternInvalid as error:
            message = f"The agent {agent.name} takes no calls because of its roomNamePattern {pattern!r}: {error}."
            raise RequestError(409, ErrorReason.ROOM_NAME_MISMATCH, message) from error

    def _new_call(
        self,
        agent: Agent,
        request: CallRequest,
        client: Client,
        call_id: str,
        room: str,
        connection: Connection,
        traceparent: str,
    ) -> Call:
        admission = self._dispatcher.admission(agent.key)
        if admission is not Admission.FREE_SLOT and self._ledger.count_without_slot(agent.key) >= self._max_pending:
            message = f"{self._max_pending} calls already wait for the agent {agent.name}. Call again later."
            raise RequestError(429, ErrorReason.TOO_MANY_PENDING, message, retry_after_seconds=RETRY_AFTER_SECONDS)
        now = time.time()
        identity = f"caller-{call_id}"
        call = Call(
            id=call_id,
            agent=agent,
            agent_name=agent.agent_name,
            room=room,
            identity=identity,
            request_hash=request.digest(),
            call_token_hash=fingerprint(call_token(connection.credentials, call_id)),
            dispatch_metadata=request.dispatch_metadata(call_id, identity, agent.spec.language, traceparent),
            state=CallState.WAITING if admission is Admission.WAIT else CallState.DISPATCHED,
            created_at=now,
            search_started_at=now,
            state_since=now,
            client=client,
            free_slot_known=admission is Admission.FREE_SLOT,
            causes=() if admission is Admission.WAIT else (Cause.FIRST,),
        )
        return call if admission is Admission.WAIT else self._dispatcher.assign_seat(call)

    async def _create_room(self, connection: Connection, call: Call) -> None:
        agent_name = effects.hold_name(call) if call.state is CallState.WAITING else call.agent_name
        metadata = render(effects.record_of(call))
        await connection.livekit.create_room(call.room, metadata, agent_name, call.dispatch_metadata)

    async def _find_in_livekit(self, agent: Agent, connection: Connection, room: str) -> Call | None:
        """Adopt the call of this room when LiveKit has it and the ledger does not."""
        for found in await connection.livekit.rooms([room]):
            record = read_room_record(found.metadata)
            if record is not None and record.agent == agent.key:
                return await self._adopter.adopt(agent, connection, found, record)
        return None
