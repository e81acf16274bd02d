"""Follows each call from its request to its end: decides with `calls.step`, and carries out what that asks for.

Nothing here polls. A call is looked at when something was heard of it, when a slot may have become free, and when one
of its time limits may be over. A look is synchronous and costs no request. What it asks for is carried out by a task,
one at a time for each call.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway.agents import Agent, AgentDirectory, InvalidAgent
from gateway.calls import audit, effects
from gateway.calls.call import STATE_MESSAGES, Call, CallReason, CallState
from gateway.calls.ledger import Ledger
from gateway.calls.metrics import CallMetrics
from gateway.calls.retries import Retries
from gateway.calls.room import CallRoom
from gateway.calls.step import (
    Admission,
    Effect,
    RoomSnapshot,
    Step,
    assign_seat,
    dispatch_failed,
    finish,
    look_again_seconds,
    must_inquire,
    seen,
    step,
    unavailable_reason,
)
from gateway.calls.waits import CallLengths, estimate_seconds
from gateway.calls.watch import RoomWatch
from gateway.cluster.members import Members
from gateway.cluster.supply import SupplySource
from gateway.livekit.connections import Connections, SecretError
from gateway.livekit.fenced import Fenced, FencedLiveKit
from gateway.livekit.server import LiveKit, LiveKitError, RoomMissing

CLOSE_ATTEMPTS = 5
"""The gateway tries this often to close a room; after that LiveKit's own timeouts close it."""
END_SECONDS = 2.0
"""Longest wait for LiveKit when a call has to end. Further attempts follow without anyone waiting."""
SEARCH_SECONDS = 4.0
"""Longest wait of a new owner for the calls of its agents, before it dispatches any."""
FENCED_LOOK_SECONDS = 0.25
"""Until the next look at a call while this gateway may not act."""
RETRY_SECONDS = 1.0
"""Until the next look at a call after an unexpected error, or after LiveKit did not answer a question about it."""

logger = logging.getLogger(__name__)


class Dispatcher:
    """Follows all live calls."""

    def __init__(
        self,
        agents: AgentDirectory,
        connections: Connections,
        ledger: Ledger,
        watch: RoomWatch,
        supply: SupplySource,
        members: Members,
        metrics: CallMetrics,
    ) -> None:
        self._agents = agents
        self._connections = connections
        self._ledger = ledger
        self._watch = watch
        self._supply = supply
        self._members = members
        self._metrics = metrics
        self._lengths = CallLengths()
        self._work: dict[str, asyncio.Task[None]] = {}
        """What is being carried out, by call id: one thing at a time for each call."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._inquired: dict[str, float] = {}
        """Begin of the state in which LiveKit was asked whether a worker accepted, by call id."""
        self._retries = Retries()
        self._ending: set[str] = set()
        """Ids of calls that are about to end on request. Nothing else begins for them."""
        watch.on_change = self.look

    def admission(self, agent_key: str, call: Call | None = None) -> Admission:
        """Return whether a call may be dispatched now; without ``call``, whether a new call may be.

        A call waits until the controller has checked the agent's name: workers of another agent may use the same name.
        It also waits until a new owner of the agent knows all its calls, so that it overtakes none of them.
        """
        if not self._is_name_checked(agent_key) or not self._is_line_known(agent_key):
            return Admission.WAIT
        return self._ledger.admission(agent_key, self._supply.free_slots(agent_key), time.time(), call)

    def _is_name_checked(self, agent_key: str) -> bool:
        namespace, _, name = agent_key.partition("/")
        agent = self._agents.get(namespace, name)
        return agent.name_checked if isinstance(agent, Agent) else True

    def estimated_wait_seconds(self, call: Call) -> int | None:
        """Return about how many seconds a call still waits; None: it does not wait, or this is unknown."""
        position = self._ledger.position(call)
        if position is None:
            return None
        key = call.agent.key
        return estimate_seconds(position, self._ledger.count_with_slot(key), self._lengths.of(key))

    def _is_line_known(self, agent_key: str) -> bool:
        if self._members.is_beginning():
            return False
        namespace, _, name = agent_key.partition("/")
        agent = self._agents.get(namespace, name)
        if not isinstance(agent, Agent) or self._members.seconds_since_change() > SEARCH_SECONDS:
            return True
        return self._watch.has_searched(agent.spec.livekit.url)

    def assign_seat(self, call: Call) -> Call:
        """Return a call about to be dispatched with an avatar seat, or without an avatar when no seat is free."""
        now = time.time()
        free = self._ledger.free_seats(call, self._supply.free_seats(call.agent.key), now)
        had_avatar, call = call.avatar, assign_seat(call, free, now)
        if not call.avatar:
            if had_avatar:  # else an earlier dispatch of the call counted it
                self._metrics.record_without_seat(call)
            logger.warning("dispatching without avatar, no seat is free", extra=call.log_fields())
        return call

    def follow_new(self, call: Call, room: CallRoom | None = None) -> None:
        """Count and log a new call, and follow it."""
        self._metrics.record_opened(call)
        audit.record_opened(call)
        logger.info(STATE_MESSAGES[call.state], extra=call.log_fields())
        self.follow(call, room)

    def follow(self, call: Call, room: CallRoom | None = None) -> None:
        """Follow a call to its end. The ledger has the call, and its room exists.

        ``room`` is what is known of the room; None: nothing yet.
        """
        room = room or CallRoom(call.identity, call.agent_name, caller_seen_at=call.caller_seen_at)
        if call.state is CallState.DISPATCHED and not room.read_at:
            room.dispatched(call.state_since)
        self._watch.add(call.id, call.server, room)
        self._supply.exchange_soon()
        self.look(call.id)

    def wake_waiting_calls(self) -> None:
        """Look at the waiting calls that may be dispatched; call this when free slots have changed."""
        now = time.time()
        for agent_key in self._ledger.with_waiting_calls():
            free = self._supply.free_slots(agent_key)
            for call in self._ledger.next_in_line(agent_key, free, now):
                self.look(call.id)

    def look(self, call_id: str) -> None:
        """Decide about a call now, unless something is being carried out for it: that is followed by a look."""
        call, room = self._ledger.get(call_id), self._watch.room(call_id)
        if call is None or room is None or not call.is_live or call_id in self._work or call_id in self._ending:
            return
        if not self._members.acts_for(call.agent.key):
            return self._look_again(call_id, FENCED_LOOK_SECONDS)
        try:
            self._decide(call, room)
        except Exception:
            logger.exception("call step failed", extra=call.log_fields())
            self._look_again(call_id, RETRY_SECONDS)

    async def hang_up(self, call: Call) -> None:
        """End a call on request. Do nothing when it has ended.

        Raises:
            LiveKitError, SecretError: the room could not be closed, and the call continues.
        """
        async with self._alone(call.id):
            current = self._ledger.get(call.id)
            if current is None or not current.is_live:
                return
            work = self._begin(call.id, self._hang_up(current))
            # The call ends also when the client that asked for it does not wait for the answer.
            await asyncio.wait({work})
            if work.cancelled():
                raise Fenced("another gateway owns the call now")
            work.result()

    async def end(self, call: Call, state: CallState, reason: CallReason) -> None:
        """End a call, also when LiveKit does not answer. Do nothing when it has ended.

        This waits for LiveKit for at most `END_SECONDS`.
        """
        async with self._alone(call.id):
            current = self._ledger.get(call.id)
            if current is not None and current.is_live:
                over = finish(current, state, reason, time.time()).call
                self._record(current, over)
                await asyncio.wait({self._begin(call.id, self._close(over))}, timeout=END_SECONDS)

    @asynccontextmanager
    async def _alone(self, call_id: str) -> AsyncIterator[None]:
        """Wait until nothing is being carried out for a call. Nothing else begins for it meanwhile."""
        try:
            while (work := self._work.get(call_id)) is not None:
                self._ending.add(call_id)
                await asyncio.wait({work})
            yield
        finally:
            self._ending.discard(call_id)
            self.look(call_id)

    async def settle(self, call_id: str) -> None:
        """Wait until the room of a call that is over is closed."""
        while (work := self._work.get(call_id)) is not None:
            if (call := self._ledger.get(call_id)) is not None and call.is_live:
                return
            await asyncio.wait({work})

    def release_moved(self) -> None:
        """Stop following the calls of agents that another gateway owns now. They go on, and their owner adopts them."""
        for call in self._ledger:
            if not self._members.owns(call.agent.key):
                self.release(call)

    def release(self, call: Call) -> None:
        """Stop following a call without ending it."""
        if (work := self._work.get(call.id)) is not None:
            work.cancel()
        self._forget(call)
        self._ledger.remove(call.id)
        logger.info("call released", extra=call.log_fields())

    async def stop(self) -> None:
        """Stop following all calls. Their rooms stay, and the next gateway adopts the calls."""
        for timer in self._timers.values():
            timer.cancel()
        work = list(self._work.values())
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self._watch.stop()

    def _decide(self, call: Call, room: CallRoom) -> None:
        now = time.time()
        known = seen(call, room.caller_seen_at, room.agent_seen_at)
        snapshot = room.snapshot(now) if self._watch.answers(call.server) else None
        if (request := self._first_request(known, room, snapshot, now)) is not None:
            return self._start(known, request)
        admission = self.admission(call.agent.key, known)
        following = step(known, snapshot, admission, now, self._unavailable_reason(call.agent))
        if following.effect is Effect.DISPATCH:
            following = Step(self.assign_seat(following.call), following.effect)
            room.dispatched(now)
            self._watch.changed(call.id, call.server)
        self._record(call, following.call)
        if following.effect is not Effect.NONE:
            self._start(following.call, self._carry_out(following, room))
        elif following.call.is_live:
            self._look_again(call.id, look_again_seconds(following.call, snapshot, now))

    def _first_request(
        self, call: Call, room: CallRoom, snapshot: RoomSnapshot | None, now: float
    ) -> Coroutine[None, None, None] | None:
        """Return what LiveKit is asked before anything is decided; None: nothing."""
        if snapshot is None or not self._retries.goes_first(call.id, now):
            return None
        if must_inquire(call, snapshot, now) and self._inquired.get(call.id) != call.state_since:
            return self._inquire(call, room)
        if snapshot.surplus_agents:
            return self._remove_surplus(call, room, snapshot.surplus_agents)
        if not (room.has_record or call.foreign or room.missing_since):
            return self._restore(call, room)
        return None

    async def _inquire(self, call: Call, room: CallRoom) -> None:
        livekit = await self._livekit(call)
        began = time.time()
        try:
            room.participants(await livekit.participants(call.room), began)
            found = await livekit.dispatches(call.room)
        except RoomMissing:
            room.not_listed(began)
        else:
            room.accepted |= any(one.accepted for one in found if one.agent_name == call.agent_name)
        self._inquired[call.id] = call.state_since

    async def _remove_surplus(self, call: Call, room: CallRoom, identities: tuple[str, ...]) -> None:
        livekit = await self._livekit(call)
        for identity in identities:
            logger.warning("removing surplus agent", extra={**call.log_fields(), "identity": identity})
        await effects.remove_agents(livekit, call, identities)
        began = time.time()
        room.participants(await livekit.participants(call.room), began)

    async def _restore(self, call: Call, room: CallRoom) -> None:
        """Restore what a restart of LiveKit has lost. The calls of a room without its record die with the gateway."""
        logger.warning("room record lost, restoring it", extra=call.log_fields())
        await effects.restore(await self._livekit(call), call)
        room.has_record = True

    def _start(self, call: Call, work: Coroutine[None, None, None]) -> None:
        """Carry something out for a call. LiveKit's errors are logged: the next look decides what to do."""
        _ = self._begin(call.id, self._logged(call, work))

    def _begin(self, call_id: str, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = self._work[call_id] = asyncio.create_task(work, name=f"call {call_id}")
        task.add_done_callback(lambda done: self._done(call_id, done))
        return task

    def _done(self, call_id: str, task: "asyncio.Task[None]") -> None:
        del self._work[call_id]
        if not task.cancelled():
            task.exception()  # whoever waits for the task gets it, and `_logged` raises none
            self.look(call_id)

    async def _logged(self, call: Call, work: Coroutine[None, None, None]) -> None:
        try:
            await work
            return self._retries.succeeded(call.id)
        except (LiveKitError, SecretError) as error:
            logger.warning("LiveKit request failed", extra={**call.log_fields(), "error": str(error)})
        except Exception:
            logger.exception("call step failed", extra=call.log_fields())
        if self._watch.room(call.id) is not None:  # else the call is over
            self._retries.failed(call.id, time.time())
        await asyncio.sleep(RETRY_SECONDS)

    async def _carry_out(self, following: Step, room: CallRoom) -> None:
        call = following.call
        if following.effect is Effect.HANG_UP:
            return await self._close(call)
        try:
            livekit = await self._livekit(call)
            if following.effect is Effect.HOLD:
                await effects.hold(livekit, call)
            else:
                await effects.dispatch(livekit, call, tuple(room.ghosts))  # reads of the room change the set
                if not room.accepted:  # the limits count from the moment that LiveKit has the dispatch
                    self._ledger.put(replace(call, state_since=time.time()))
        except (LiveKitError, SecretError) as error:
            if following.effect is Effect.DISPATCH and not room.accepted:
                self._record(call, dispatch_failed(call, time.time()))
            raise error

    async def _livekit(self, call: Call) -> LiveKit:
        """Return the client of the call's LiveKit server. It changes nothing once another gateway may own the call."""
        livekit = (await self._connections.open(call.agent)).livekit
        return FencedLiveKit(livekit, lambda: self._members.acts_for(call.agent.key))

    async def _close(self, call: Call) -> None:
        """Close the room of a call that is over."""
        for attempt in range(1, CLOSE_ATTEMPTS + 1):
            try:
                return await effects.close(await self._livekit(call), call)
            except (LiveKitError, SecretError) as error:
                logger.warning("LiveKit request failed", extra={**call.log_fields(), "error": str(error)})
                await asyncio.sleep(attempt)

    async def _hang_up(self, call: Call) -> None:
        await effects.close(await self._livekit(call), call)
        self._record(call, finish(call, CallState.ENDED, CallReason.HUNG_UP, time.time()).call)

    def _look_again(self, call_id: str, seconds: float) -> None:
        """Look at a call after so many seconds, if nothing is heard of it before."""
        if (timer := self._timers.pop(call_id, None)) is not None:
            timer.cancel()
        self._timers[call_id] = asyncio.get_running_loop().call_later(seconds, self.look, call_id)

    def _record(self, before: Call, after: Call) -> None:
        """Store the new state of a call; log and count it when the state changed."""
        if after.state is CallState.JOINED and after.joined_at is None:
            after = replace(after, joined_at=after.state_since)
        if after is before:
            return
        self._ledger.put(after)
        if not after.is_live:
            self._forget(after)
        if after.state is before.state and after.causes == before.causes:
            return
        if after.causes[len(before.causes) :]:
            self._metrics.record_dispatch(after)
        if after.state is CallState.JOINED:
            self._metrics.record_join(before, after)
        elif not after.is_live:
            self._metrics.record_ended(before, after)
            self._lengths.record(after)
            audit.record_ended(after)
        if CallState.WAITING in (before.state, after.state):
            self._supply.exchange_soon()
        logger.info(STATE_MESSAGES[after.state], extra=after.log_fields())

    def _forget(self, call: Call) -> None:
        self._watch.forget(call.id, call.server)
        self._inquired.pop(call.id, None)
        self._retries.succeeded(call.id)
        if (timer := self._timers.pop(call.id, None)) is not None:
            timer.cancel()

    def _unavailable_reason(self, agent: Agent) -> CallReason:
        """Return why the agent, as it is declared now, takes no new calls."""
        current = self._agents.get(agent.namespace, agent.name)
        return CallReason.NONE if isinstance(current, InvalidAgent) else unavailable_reason(current)
