"""Runs each call from its request to its end: reads the room, and carries out what `calls.step` decides."""

import asyncio
import logging
import time

from agentspec.wire import read_room_record
from gateway.agents import Agent, AgentDirectory, InvalidAgent
from gateway.calls import audit
from gateway.calls.call import Call, CallReason, CallState, Cause
from gateway.calls.ledger import Ledger
from gateway.calls.metrics import CallMetrics
from gateway.calls.step import (
    Admission,
    Effect,
    RoomSnapshot,
    Step,
    accept_timeout_seconds,
    assign_seat,
    finish,
    step,
    unavailable_reason,
)
from gateway.cluster.supply import SupplySource
from gateway.livekit.connections import Connection, Connections, SecretError
from gateway.livekit.server import WAITING_AGENT_NAME, LiveKit, LiveKitError, Participant, RoomMissing

POLL_SECONDS = {CallState.WAITING: 1.0, CallState.DISPATCHED: 0.15, CallState.JOINED: 2.0}
"""Interval between two reads of a call's room, by state."""
CLOSE_ATTEMPTS = 5
"""The gateway tries this often to close a room; after that LiveKit's own timeouts close it."""

_STATE_MESSAGES = {
    CallState.WAITING: "call is waiting for a free slot",
    CallState.DISPATCHED: "call dispatched",
    CallState.JOINED: "agent joined call",
    CallState.FAILED: "call failed",
    CallState.ENDED: "call ended",
}

logger = logging.getLogger(__name__)


class Dispatcher:
    """Runs one task for each live call."""

    def __init__(
        self,
        agents: AgentDirectory,
        connections: Connections,
        ledger: Ledger,
        supply: SupplySource,
        metrics: CallMetrics,
    ) -> None:
        self._agents = agents
        self._connections = connections
        self._ledger = ledger
        self._supply = supply
        self._metrics = metrics
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake_events: dict[str, asyncio.Event] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def admission(self, agent_key: str, call: Call | None = None) -> Admission:
        """Return whether a call may be dispatched now; without ``call``, whether a new call may be.

        A call waits until the controller has checked the agent's name: workers of another agent may use the same name.
        """
        if not self._is_name_checked(agent_key):
            return Admission.WAIT
        return self._ledger.admission(agent_key, self._supply.free_slots(agent_key), time.time(), call)

    def _is_name_checked(self, agent_key: str) -> bool:
        namespace, _, name = agent_key.partition("/")
        agent = self._agents.get(namespace, name)
        return agent.name_checked if isinstance(agent, Agent) else True

    def assign_seat(self, call: Call) -> Call:
        """Return a call about to be dispatched with an avatar seat, or without an avatar when no seat is free."""
        now = time.time()
        free = self._ledger.free_seats(call, self._supply.free_seats(call.agent.key), now)
        had_avatar, call = call.avatar, assign_seat(call, free, now)
        if not call.avatar:
            if had_avatar:  # else an earlier dispatch of the call counted it
                self._metrics.record_without_seat(call)
            logger.warning("dispatching without avatar, no seat is free", extra=_log_fields(call))
        return call

    def follow_new(self, call: Call) -> None:
        """Count and log a new call whose room was just created, and follow it."""
        self._metrics.record_opened(call)
        audit.record_opened(call)
        logger.info(_STATE_MESSAGES[call.state], extra=_log_fields(call))
        self.follow(call)

    def follow(self, call: Call) -> None:
        """Start the task that follows a call to its end. The ledger has the call, and its room exists."""
        self._wake_events[call.id] = asyncio.Event()
        self._locks[call.id] = asyncio.Lock()
        self._tasks[call.id] = asyncio.create_task(self._follow(call.id), name=f"call {call.id}")
        self._supply.exchange_soon()

    def wake_waiting_calls(self) -> None:
        """Process now the waiting calls that may be dispatched; call this when free slots have changed."""
        for call in self._ledger:
            wake = self._wake_events.get(call.id)
            if wake and call.state is CallState.WAITING and self.admission(call.agent.key, call) is not Admission.WAIT:
                wake.set()

    async def hang_up(self, call: Call) -> None:
        """End a call on request. Do nothing when it has ended.

        Raises:
            LiveKitError, SecretError: the room could not be closed, and the call continues.
        """
        lock, wake = self._locks.get(call.id), self._wake_events.get(call.id)
        if lock is None or wake is None:
            return
        async with lock:
            current = self._ledger.get(call.id)
            if current is None or not current.is_live:
                return
            await _close((await self._connections.open(call.agent)).livekit, call.room)
            self._record(current, finish(current, CallState.ENDED, CallReason.HUNG_UP, time.time()).call)
        wake.set()

    async def stop(self) -> None:
        """Stop following all calls. Their rooms stay, and the next gateway adopts the calls."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _follow(self, call_id: str) -> None:
        try:
            while (call := self._ledger.get(call_id)) is not None and call.is_live:
                try:
                    async with self._locks[call_id]:
                        await self._advance(call_id)
                except Exception:
                    logger.exception("call step failed", extra=_log_fields(call))
                await self._wait_for_next_poll(call_id)
        finally:
            for registry in (self._wake_events, self._locks, self._tasks):
                registry.pop(call_id, None)

    async def _wait_for_next_poll(self, call_id: str) -> None:
        call = self._ledger.get(call_id)
        if call is None or not call.is_live:
            return
        wake = self._wake_events[call_id]
        try:
            async with asyncio.timeout(POLL_SECONDS[call.state]):
                await wake.wait()
        except TimeoutError:
            return
        wake.clear()

    async def _advance(self, call_id: str) -> None:
        """Read the room once, store the next state, and carry out its effect."""
        call = self._ledger.get(call_id)
        if call is None or not call.is_live:
            return
        connection, room = await self._read_room(call)
        now = time.time()
        if connection is not None and room is not None and room.surplus_agents:
            await self._remove(connection.livekit, call, room.surplus_agents)
        following = step(call, room, self.admission(call.agent.key, call), now, self._unavailable_reason(call.agent))
        if following.effect is Effect.DISPATCH:
            following = Step(self.assign_seat(following.call), following.effect)
        self._record(call, following.call)
        if following.effect is Effect.NONE or connection is None:
            return
        for attempt in range(1, CLOSE_ATTEMPTS + 1):
            try:
                return await _perform(connection.livekit, following)
            except LiveKitError as error:
                self._livekit_failed(following.call, error)
            if following.effect is not Effect.HANG_UP or attempt == CLOSE_ATTEMPTS:
                return  # after a failed dispatch no agent joins, and `calls.step` dispatches again
            await asyncio.sleep(attempt)

    def _unavailable_reason(self, agent: Agent) -> CallReason:
        """Return why the agent, as it is declared now, takes no new calls."""
        current = self._agents.get(agent.namespace, agent.name)
        return CallReason.NONE if isinstance(current, InvalidAgent) else unavailable_reason(current)

    async def _read_room(self, call: Call) -> tuple[Connection | None, RoomSnapshot | None]:
        try:
            connection = await self._connections.open(call.agent)
        except SecretError as error:
            logger.warning("LiveKit credentials missing", extra={**_log_fields(call), "error": str(error)})
            return None, None
        try:
            return connection, await read_room(connection.livekit, call, time.time())
        except LiveKitError as error:
            self._livekit_failed(call, error)
            return connection, None

    async def _remove(self, livekit: LiveKit, call: Call, identities: tuple[str, ...]) -> None:
        for identity in identities:
            logger.warning("removing surplus agent", extra={**_log_fields(call), "identity": identity})
            try:
                await livekit.remove_participant(call.room, identity)
            except LiveKitError as error:
                self._livekit_failed(call, error)

    def _livekit_failed(self, call: Call, error: LiveKitError) -> None:
        logger.warning("LiveKit request failed", extra={**_log_fields(call), "error": str(error)})

    def _record(self, before: Call, after: Call) -> None:
        """Store the new state of a call; log and count it when the state changed."""
        self._ledger.put(after)
        if after.state is before.state and after.causes == before.causes:
            return
        if after.causes != before.causes:
            self._metrics.record_dispatch(after)
        if after.state is CallState.JOINED and Cause.AGENT_LOST not in after.causes:
            self._metrics.record_join(after)
        elif not after.is_live:
            self._metrics.record_ended(after)
            audit.record_ended(after)
        if CallState.WAITING in (before.state, after.state):
            self._supply.exchange_soon()
        logger.info(_STATE_MESSAGES[after.state], extra=_log_fields(after))


def _log_fields(call: Call) -> dict[str, object]:
    """Return the log fields of a call; ``seconds`` is the time from its creation to its present state."""
    return {
        "call_id": call.id,
        "room": call.room,
        "agent": call.agent.key,
        "agent_name": call.agent_name,
        "reason": call.reason.value,
        "causes": [cause.value for cause in call.causes],
        "seconds": round(call.state_since - call.created_at, 3),
        **call.client.log_fields(),
    }


async def read_room(livekit: LiveKit, call: Call, now: float) -> RoomSnapshot:
    """Read a call's room from LiveKit, with as few requests as the call's state allows."""
    participants = await livekit.participants(call.room)
    agents = [found for found in participants if found.agent_name == call.agent_name]
    caller = any(found.identity == call.identity for found in participants)
    abandoned = call.state is CallState.JOINED and not agents
    # An agent that ends the call at once, for example because no avatar seat is free, may never appear in the room.
    overdue = (
        call.state is CallState.DISPATCHED and not agents and now - call.state_since >= accept_timeout_seconds(call)
    )
    rooms = await livekit.rooms([call.room]) if abandoned or overdue or not participants else []
    room = bool(participants) or bool(rooms)
    record = read_room_record(rooms[0].metadata) if rooms else None
    accepted = False
    if room and overdue:
        dispatches = await livekit.dispatches(call.room)
        accepted = any(found.accepted for found in dispatches if found.agent_name == call.agent_name)
    return RoomSnapshot(
        exists=room,
        caller_present=caller,
        agent_present=bool(agents),
        accepted=accepted,
        outcome=record.outcome if record else "",
        surplus_agents=surplus_agents(agents),
    )


def surplus_agents(agents: list[Participant]) -> tuple[str, ...]:
    """Return the identities of all agents except the first that joined.

    A worker that was frozen while its dispatch was withdrawn still joins when it resumes (observed with livekit-agents
    1.8.9 and livekit-server 1.13.5).
    """
    return tuple(found.identity for found in sorted(agents, key=lambda found: found.joined_at)[1:])


async def _perform(livekit: LiveKit, following: Step) -> None:
    call = following.call
    match following.effect:
        case Effect.DISPATCH:
            await redispatch(livekit, call, call.agent_name)
        case Effect.HOLD:
            await redispatch(livekit, call, WAITING_AGENT_NAME)
        case Effect.HANG_UP:
            await _close(livekit, call.room)


async def redispatch(livekit: LiveKit, call: Call, agent_name: str) -> None:
    """Leave exactly one dispatch in an existing room: a new one for the agent, or the one that holds a waiting call.

    The agent's old dispatches are deleted first, so that no two agents join. Meanwhile the dispatch to
    `WAITING_AGENT_NAME` holds the metadata, so that it survives when the gateway stops in between.
    """
    found = await livekit.dispatches(call.room)
    holding = [dispatch for dispatch in found if dispatch.agent_name == WAITING_AGENT_NAME]
    if not holding:
        await livekit.create_dispatch(call.room, WAITING_AGENT_NAME, call.dispatch_metadata)
    for dispatch in found:
        if dispatch.agent_name != WAITING_AGENT_NAME:
            await livekit.delete_dispatch(call.room, dispatch.id)
    if agent_name == WAITING_AGENT_NAME:
        return
    await livekit.create_dispatch(call.room, agent_name, call.dispatch_metadata)
    for dispatch in await livekit.dispatches(call.room):
        if dispatch.agent_name == WAITING_AGENT_NAME:
            await livekit.delete_dispatch(call.room, dispatch.id)


async def _close(livekit: LiveKit, room: str) -> None:
    try:
        await livekit.delete_room(room)
    except RoomMissing:
        return
