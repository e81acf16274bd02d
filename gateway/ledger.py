"""The calls of this gateway, in memory. LiveKit's rooms are the durable record behind it."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from gateway.calls import Admission, Call, CallState
from gateway.seats import free_seats

FINISHED_RETENTION_SECONDS = 600.0
"""How long the outcome of a call can be asked for."""
SUPPLY_LAG_SECONDS = 2.0
"""So long after the join the controller's counts of free slots and seats know of it."""


class Ledger:
    """Calls by id. Every method is atomic: none waits, except `changed`."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._changes: dict[str, asyncio.Event] = {}

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def get(self, call_id: str) -> Call | None:
        return self._calls.get(call_id)

    def put(self, call: Call) -> None:
        """Store a call, new or changed, and wake whoever waits for it."""
        self._calls[call.id] = call
        self._changes.pop(call.id, asyncio.Event()).set()

    def remove(self, call_id: str) -> None:
        self._calls.pop(call_id, None)
        self._changes.pop(call_id, asyncio.Event()).set()

    async def wait_for_change(self, call_id: str, known: CallState, seconds: float) -> None:
        """Wait until a call is in another state than the known one, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                while (call := self.get(call_id)) is not None and call.is_live and call.state is known:
                    await self._changes.setdefault(call_id, asyncio.Event()).wait()
        except TimeoutError:
            return

    def waiting(self, agent_key: str) -> list[Call]:
        """An agent's waiting calls in the order in which they will be dispatched."""
        calls = [call for call in self if call.agent.key == agent_key and call.state is CallState.WAITING]
        return sorted(calls, key=lambda call: (call.created_at, call.id))

    def count_without_slot(self, agent_key: str) -> int:
        """An agent's calls that no slot is known for: those that wait, and those LiveKit was asked about blindly."""
        calls = (call for call in self if call.agent.key == agent_key)
        return sum(
            call.state is CallState.WAITING or (call.state is CallState.DISPATCHED and not call.free_slot_known)
            for call in calls
        )

    def position(self, call: Call) -> int | None:
        """Place in line, counted from 1; None for a call that does not wait."""
        ids = [waiting.id for waiting in self.waiting(call.agent.key)]
        return ids.index(call.id) + 1 if call.id in ids else None

    def pending(self) -> dict[str, int]:
        """Waiting calls by agent key: what the controller is told."""
        return dict(Counter(call.agent.key for call in self if call.state is CallState.WAITING))

    def in_flight(self, agent_key: str, now: float) -> int:
        """Dispatches that the controller's count of free slots may not know of yet."""
        return sum(1 for call in self if call.agent.key == agent_key and _in_flight(call, now))

    def admission(self, agent_key: str, free_slots: int | None, now: float, call: Call | None = None) -> Admission:
        """Whether a waiting call, or a new one behind all that wait, may be dispatched now."""
        if free_slots is None:
            return Admission.SLOTS_UNKNOWN
        ahead = len(self.waiting(agent_key))
        if call is not None and (position := self.position(call)) is not None:
            ahead = position - 1
        return Admission.FREE_SLOT if ahead < free_slots - self.in_flight(agent_key, now) else Admission.WAIT

    def free_seats(self, call: Call, reported: int | None, now: float) -> int | None:
        """Avatar seats that are free for a call, given the controller's count; None: nobody counts them."""
        others = (other for other in self if other.agent.key == call.agent.key and other.id != call.id)
        return free_seats(reported, [other.seat for other in others if other.seat and _in_flight(other, now)])

    def remove_finished(self, now: float) -> None:
        """Drop calls that were over long ago."""
        for call in self:
            if not call.is_live and now - call.state_since > FINISHED_RETENTION_SECONDS:
                self.remove(call.id)


def _in_flight(call: Call, now: float) -> bool:
    if call.state is CallState.JOINED:
        return now - call.state_since < SUPPLY_LAG_SECONDS
    return call.state is CallState.DISPATCHED
