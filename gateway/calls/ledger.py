"""The calls of this gateway, in memory. The room records in LiveKit are the durable copy.

Calls are indexed by agent and by room, and finished calls are kept apart, so that no question costs more than the calls
that it is about. The place of a waiting call in its line is found by bisection.
"""

import asyncio
import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.calls.call import Call, CallState
from gateway.calls.seats import free_seats
from gateway.calls.step import Admission

FINISHED_RETENTION_SECONDS = 600.0
"""How long the API reports a finished call."""
SUPPLY_LAG_SECONDS = 2.0
"""Longest time after a join until the controller's counts of free slots and seats include the call."""

CALLER_EXPECTED_SECONDS = 10.0
"""A call whose caller has not come keeps later calls waiting for so long. A caller connects within about 2 s. In a
crowd, only the list of rooms tells, and it follows within 6 s. One who comes later still goes before later calls."""

RoomKey = tuple[str, str]
"""URL of the LiveKit server, and name of the room."""
_Place = tuple[float, str]
"""Creation and id of a waiting call: its place in the line."""
_END: _Place = (math.inf, "")


@dataclass(slots=True)
class _AgentCalls:
    """The live calls of one agent."""

    line: list[_Place] = field(default_factory=list)
    """Places of the waiting calls, in the order of their dispatch."""
    with_caller: list[_Place] = field(default_factory=list)
    """Those of them whose caller has come, or that need none."""
    without_caller: list[_Place] = field(default_factory=list)
    """The others."""
    dispatched: dict[str, Call] = field(default_factory=dict)
    joined: dict[str, Call] = field(default_factory=dict)
    just_joined: dict[str, Call] = field(default_factory=dict)
    """Calls that joined within `SUPPLY_LAG_SECONDS`, oldest first; older ones are removed when it is read."""

    @property
    def empty(self) -> bool:
        return not (self.line or self.dispatched or self.joined)

    def add(self, call: Call) -> None:
        match call.state:
            case CallState.WAITING:
                insort(self.line, _place(call))
                insort(self._line_of(call), _place(call))
            case CallState.DISPATCHED:
                self.dispatched[call.id] = call
            case CallState.JOINED:
                self.joined[call.id] = self.just_joined[call.id] = call
            case _:
                raise ValueError(f"{call.state} is not a live state")

    def remove(self, call: Call) -> None:
        if call.state is CallState.WAITING:
            del self.line[bisect_left(self.line, _place(call))]
            line = self._line_of(call)
            del line[bisect_left(line, _place(call))]
        for calls in (self.dispatched, self.joined, self.just_joined):
            calls.pop(call.id, None)

    def next_in_line(self, most: int | None, now: float) -> list[_Place]:
        """Return the first places, at most so many, without the calls whose caller is no longer expected."""
        expected = self.without_caller[self._first_expected(now) :]
        return sorted([*self.with_caller[:most], *expected[:most]])[:most]

    def count_ahead(self, place: _Place, now: float) -> int:
        """Count the waiting calls before a place, without those whose caller is no longer expected."""
        expected = bisect_left(self.without_caller, place) - self._first_expected(now)
        return bisect_left(self.with_caller, place) + max(0, expected)

    def _first_expected(self, now: float) -> int:
        return bisect_left(self.without_caller, (now - CALLER_EXPECTED_SECONDS, ""))

    def _line_of(self, call: Call) -> list[_Place]:
        return self.without_caller if _lacks_caller(call) else self.with_caller

    def in_flight(self, now: float) -> list[Call]:
        """Return the calls with a dispatch that the controller's counts may not include yet."""
        for call in list(self.just_joined.values()):
            if now - call.state_since >= SUPPLY_LAG_SECONDS:
                del self.just_joined[call.id]
        return [*self.dispatched.values(), *self.just_joined.values()]


class Ledger:
    """Calls by id, agent and room. Every method is atomic: only `wait_for_change` awaits."""

    def __init__(self) -> None:
        self._live: dict[str, Call] = {}
        self._finished: dict[str, Call] = {}
        """In the order of their end."""
        self._agents: dict[str, _AgentCalls] = {}
        self._rooms: dict[str, dict[str, str]] = {}
        """Id of the live call in each room, by server."""
        self._changes: dict[str, asyncio.Event] = {}

    def __iter__(self) -> Iterator[Call]:
        """Iterate over the live calls."""
        return iter(list(self._live.values()))

    def get(self, call_id: str) -> Call | None:
        return self._live.get(call_id) or self._finished.get(call_id)

    def in_room(self, server: str, room: str) -> str | None:
        """Return the id of the live call in a room; None: there is none."""
        return self._rooms.get(server, {}).get(room)

    def rooms(self, server: str) -> Mapping[str, str]:
        """Return the rooms of the live calls on a server, each with the id of its call."""
        return self._rooms.get(server, {})

    def servers(self) -> list[str]:
        """Return the LiveKit servers that have live calls."""
        return [server for server, rooms in self._rooms.items() if rooms]

    def put(self, call: Call) -> None:
        """Store a new or changed call, and wake the tasks that wait for a change of it."""
        before = self._live.get(call.id)
        if before is not None and _same_index(before, call):
            self._replace(call)
        else:
            self._unlist(before)
            self._list(call)
        self._wake(call.id)

    def remove(self, call_id: str) -> None:
        self._unlist(self._live.get(call_id))
        self._finished.pop(call_id, None)
        self._wake(call_id)

    async def wait_for_change(self, call_id: str, known: CallState, seconds: float) -> None:
        """Wait until the state of a call is not the known one, or the call is over, for at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                while (call := self._live.get(call_id)) is not None and call.state is known:
                    await self._changes.setdefault(call_id, asyncio.Event()).wait()
        except TimeoutError:
            return

    def waiting(self, agent_key: str) -> list[Call]:
        """Return an agent's waiting calls in the order of their dispatch."""
        line = self._agents[agent_key].line if agent_key in self._agents else []
        return [self._live[call_id] for _, call_id in line]

    def next_in_line(self, agent_key: str, most: int | None, now: float) -> list[Call]:
        """Return the first ``most`` waiting calls of an agent that may get a slot; None: all of them."""
        places = self._agents[agent_key].next_in_line(most, now) if agent_key in self._agents else []
        return [self._live[call_id] for _, call_id in places]

    def with_waiting_calls(self) -> list[str]:
        """Return the keys of the agents for which calls wait."""
        return [key for key, calls in self._agents.items() if calls.line]

    def of_agent(self, agent_key: str) -> list[Call]:
        """Return the live calls of an agent."""
        calls = self._agents.get(agent_key)
        return [] if calls is None else [*self.waiting(agent_key), *calls.dispatched.values(), *calls.joined.values()]

    def count_without_slot(self, agent_key: str) -> int:
        """Count an agent's calls without a known slot: waiting calls, and dispatches while free slots were unknown."""
        calls = self._agents.get(agent_key)
        if calls is None:
            return 0
        return len(calls.line) + sum(not call.free_slot_known for call in calls.dispatched.values())

    def count_with_slot(self, agent_key: str) -> int:
        """Count an agent's calls that have a slot or are about to."""
        calls = self._agents.get(agent_key)
        return 0 if calls is None else len(calls.dispatched) + len(calls.joined)

    def position(self, call: Call) -> int | None:
        """Return the position of a call in the queue, from 1; None when the call does not wait."""
        known = self._live.get(call.id)
        if known is None or known.state is not CallState.WAITING:
            return None
        return bisect_left(self._agents[known.agent.key].line, _place(known)) + 1

    def pending(self) -> dict[str, int]:
        """Return the number of waiting calls by agent key, which the gateway reports to the controller."""
        return {key: len(calls.line) for key, calls in self._agents.items() if calls.line}

    def counts(self) -> Counter[tuple[str, CallState]]:
        """Return the number of live calls by agent key and state."""
        counts: Counter[tuple[str, CallState]] = Counter()
        for key, calls in list(self._agents.items()):
            counts[key, CallState.WAITING] = len(calls.line)
            counts[key, CallState.DISPATCHED] = len(calls.dispatched)
            counts[key, CallState.JOINED] = len(calls.joined)
        return counts

    def in_flight(self, agent_key: str, now: float) -> int:
        """Count the dispatches that the controller's count of free slots may not include yet."""
        calls = self._agents.get(agent_key)
        return 0 if calls is None else len(calls.in_flight(now))

    def admission(self, agent_key: str, free_slots: int | None, now: float, call: Call | None = None) -> Admission:
        """Return whether a call may be dispatched now; without ``call``, whether a new call may be.

        A new call comes after all waiting calls. A call whose caller has not come within `CALLER_EXPECTED_SECONDS`
        delays no other: it could not use the slot. ``free_slots`` is the controller's count; None: unknown.
        """
        if free_slots is None:
            return Admission.SLOTS_UNKNOWN
        calls = self._agents.get(agent_key)
        is_waiting = call is not None and self.position(call) is not None
        place = _place(call) if call is not None and is_waiting else _END
        ahead = 0 if calls is None else calls.count_ahead(place, now)
        return Admission.FREE_SLOT if ahead < free_slots - self.in_flight(agent_key, now) else Admission.WAIT

    def free_seats(self, call: Call, reported: int | None, now: float) -> int | None:
        """Return the number of avatar seats that are free for a call; None: the agent has no limit.

        ``reported`` is the controller's count.
        """
        calls = self._agents.get(call.agent.key)
        others = [] if calls is None else [other for other in calls.in_flight(now) if other.id != call.id]
        return free_seats(reported, [other.seat for other in others if other.seat])

    def remove_finished(self, now: float) -> None:
        """Remove finished calls after their retention."""
        for call in list(self._finished.values()):
            if now - call.state_since <= FINISHED_RETENTION_SECONDS:
                return
            self.remove(call.id)

    def _replace(self, call: Call) -> None:
        """Store a call whose place in every index is the same."""
        self._live[call.id] = call
        calls = self._agents[call.agent.key]
        for listed in (calls.dispatched, calls.joined, calls.just_joined):
            if call.id in listed:
                listed[call.id] = call

    def _list(self, call: Call) -> None:
        if not call.is_live:
            self._finished[call.id] = call
            return
        self._finished.pop(call.id, None)  # a token that was used again after its call was over
        self._live[call.id] = call
        self._rooms.setdefault(call.server, {})[call.room] = call.id
        self._agents.setdefault(call.agent.key, _AgentCalls()).add(call)

    def _unlist(self, call: Call | None) -> None:
        if call is None:
            return
        del self._live[call.id]
        calls = self._agents[call.agent.key]
        calls.remove(call)
        if calls.empty:
            del self._agents[call.agent.key]
        rooms = self._rooms[call.server]
        rooms.pop(call.room, None)
        if not rooms:
            del self._rooms[call.server]

    def _wake(self, call_id: str) -> None:
        if (event := self._changes.pop(call_id, None)) is not None:
            event.set()


def _place(call: Call) -> _Place:
    return call.created_at, call.id


def _same_index(before: Call, after: Call) -> bool:
    """Whether a change leaves a call where it is: same state, and same begin of the state, agent, room and place.

    The first sight of the caller changes the line.
    """
    return (before.state, before.state_since, before.created_at, before.agent.key, before.room, before.server) == (
        after.state,
        after.state_since,
        after.created_at,
        after.agent.key,
        after.room,
        after.server,
    ) and _lacks_caller(before) == _lacks_caller(after)


def _lacks_caller(call: Call) -> bool:
    return call.needs_caller and call.caller_seen_at is None
