"""The calls of this gateway, in memory. The room records in LiveKit are the durable copy."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from gateway.calls.call import Call, CallState
from gateway.calls.seats import free_seats
from gateway.calls.step import Admission

FINISHED_RETENTION_SECONDS = 600.0
"""How long the API reports a finished call."""
SUPPLY_LAG_SECONDS = 2.0
"""Longest time after a join until the controller's counts of free slots and seats include the call."""


class Ledger:
    """Calls by id. Every method is atomic: only `wait_for_change` awaits."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._changes: dict[str, asyncio.Event] = {}

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def get(self, call_id: str) -> Call | None:
        return self._calls.get(call_id)

    def put(self, call: Call) -> None:
        """Store a new or changed call, and wake the tasks that wait for a change of it."""
        self._calls[call.id] = call
        self._changes.pop(call.id, asyncio.Event()).set()

    def remove(self, call_id: str) -> None:
        self._calls.pop(call_id, None)
        self._changes.pop(call_id, asyncio.Event()).set()

    async def wait_for_change(self, call_id: str, known: CallState, seconds: float) -> None:
        """Wait until the state of a call is not the known one, or the call is over, for at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                while (call := self.get(call_id)) is not None and call.is_live and call.state is known:
                    await self._changes.setdefault(call_id, asyncio.Event()).wait()
        except TimeoutError:
            return

    def waiting(self, agent_key: str) -> list[Call]:
        """Return an agent's waiting calls in the order of their dispatch."""
        calls = [call for call in self if call.agent.key == agent_key and call.state is CallState.WAITING]
        return sorted(calls, key=lambda call: (call.created_at, call.id))

    def count_without_slot(self, agent_key: str) -> int:
        """Count an agent's calls without a known slot: waiting calls, and dispatches while free slots were unknown."""
        calls = (call for call in self if call.agent.key == agent_key)
        return sum(
            call.state is CallState.WAITING or (call.state is CallState.DISPATCHED and not call.free_slot_known)
            for call in calls
        )

    def position(self, call: Call) -> int | None:
        """Return the position of a call in the queue, from 1; None when the call does not wait."""
        ids = [waiting.id for waiting in self.waiting(call.agent.key)]
        return ids.index(call.id) + 1 if call.id in ids else None

    def pending(self) -> dict[str, int]:
        """Return the number of waiting calls by agent key, which the gateway reports to the controller."""
        return dict(Counter(call.agent.key for call in self if call.state is CallState.WAITING))

    def in_flight(self, agent_key: str, now: float) -> int:
        """Count the dispatches that the controller's count of free slots may not include yet."""
        return sum(1 for call in self if call.agent.key == agent_key and _in_flight(call, now))

    def admission(self, agent_key: str, free_slots: int | None, now: float, call: Call | None = None) -> Admission:
        """Return whether a call may be dispatched now; without ``call``, whether a new call may be.

        A new call comes after all waiting calls. ``free_slots`` is the controller's count; None: unknown.
        """
        if free_slots is None:
            return Admission.SLOTS_UNKNOWN
        ahead = len(self.waiting(agent_key))
        if call is not None and (position := self.position(call)) is not None:
            ahead = position - 1
        return Admission.FREE_SLOT if ahead < free_slots - self.in_flight(agent_key, now) else Admission.WAIT

    def free_seats(self, call: Call, reported: int | None, now: float) -> int | None:
        """Return the number of avatar seats that are free for a call; None: the agent has no limit.

        ``reported`` is the controller's count.
        """
        others = (other for other in self if other.agent.key == call.agent.key and other.id != call.id)
        return free_seats(reported, [other.seat for other in others if other.seat and _in_flight(other, now)])

    def remove_finished(self, now: float) -> None:
        """Remove finished calls after their retention."""
        for call in self:
            if not call.is_live and now - call.state_since > FINISHED_RETENTION_SECONDS:
                self.remove(call.id)


def _in_flight(call: Call, now: float) -> bool:
    if call.state is CallState.JOINED:
        return now - call.state_since < SUPPLY_LAG_SECONDS
    return call.state is CallState.DISPATCHED
