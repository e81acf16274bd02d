"""The ledger: order, positions, dispatches in flight, and waiting for a change."""

import asyncio
from dataclasses import replace

from gateway.agents import Agent
from gateway.calls import Admission, Call, CallReason, CallState
from gateway.ledger import Ledger
from gateway.seats import Seat
from tests.unit.gateway.fakes import example_agent
from tests.unit.gateway.scenes import DISPATCHED, JOINED, NOW, WAITING

KEY = WAITING.agent.key


def waiting(number: int, of: Agent = WAITING.agent) -> Call:
    return replace(WAITING, id=f"c{number}", created_at=NOW + number, agent=of)


def ledger(*calls: Call) -> Ledger:
    found = Ledger()
    for call in calls:
        found.put(call)
    return found


def test_calls_wait_in_the_order_of_their_creation() -> None:
    of_other_agent = waiting(3, example_agent("other"))
    calls = ledger(waiting(2), waiting(1), of_other_agent, replace(DISPATCHED, id="c0"))
    assert [call.id for call in calls.waiting(KEY)] == ["c1", "c2"]
    assert [calls.position(call) for call in (waiting(1), waiting(2), of_other_agent)] == [1, 2, 1]
    assert calls.position(replace(DISPATCHED, id="c0")) is None
    assert calls.pending() == {KEY: 2, "agents/other": 1}


def test_admission_counts_free_slots_minus_dispatches_in_flight() -> None:
    in_flight = replace(DISPATCHED, id="d")
    just_joined = replace(JOINED, id="j", state_since=NOW - 1)
    long_joined = replace(JOINED, id="l", state_since=NOW - 3)
    calls = ledger(waiting(1), waiting(2), in_flight, just_joined, long_joined)
    assert calls.in_flight(KEY, NOW) == 2
    assert [calls.admission(KEY, 3, NOW, call) for call in (waiting(1), waiting(2))] == [
        Admission.FREE_SLOT,
        Admission.WAIT,
    ]
    assert calls.admission(KEY, 4, NOW) is Admission.WAIT, "a new call comes after all waiting calls"
    assert calls.admission(KEY, 5, NOW) is Admission.FREE_SLOT
    assert calls.admission("agents/other", 0, NOW) is Admission.WAIT


def test_free_seats_exclude_assignments_not_reported_yet() -> None:
    in_flight = replace(DISPATCHED, id="d", seat=Seat(3, NOW - 2.5))
    just_joined = replace(JOINED, id="j", state_since=NOW - 1, seat=Seat(2, NOW - 2))
    reported = replace(JOINED, id="k", state_since=NOW - 3, seat=Seat(4, NOW - 4))
    of_other_agent = replace(DISPATCHED, id="e", agent=example_agent("other"), seat=Seat(1, NOW))
    without_avatar = replace(DISPATCHED, id="v", avatar=False)
    calls = ledger(WAITING, in_flight, just_joined, reported, of_other_agent, without_avatar)
    assert calls.free_seats(WAITING, 3, NOW) == 1
    assert calls.free_seats(in_flight, 3, NOW) == 1, "a repeated dispatch does not count the call's own seat"
    assert calls.free_seats(WAITING, None, NOW) is None


def test_every_call_is_admitted_while_slots_are_unknown() -> None:
    assert ledger(waiting(1)).admission(KEY, None, NOW) is Admission.SLOTS_UNKNOWN


async def test_change_of_state_ends_the_wait() -> None:
    calls = ledger(WAITING)
    waiting_task = asyncio.create_task(calls.wait_for_change(WAITING.id, CallState.WAITING, 10))
    await asyncio.sleep(0)
    calls.put(replace(WAITING, caller_seen_at=NOW))
    await asyncio.sleep(0)
    assert not waiting_task.done(), "the state is the same"
    calls.put(DISPATCHED)
    await asyncio.wait_for(waiting_task, 1)


async def test_wait_ends_at_once_for_another_state_or_a_finished_call() -> None:
    over = replace(WAITING, state=CallState.ENDED, reason=CallReason.HUNG_UP)
    await asyncio.wait_for(ledger(DISPATCHED).wait_for_change("c1", CallState.WAITING, 10), 1)
    await asyncio.wait_for(ledger(over).wait_for_change("c1", CallState.ENDED, 10), 1)
    await asyncio.wait_for(ledger().wait_for_change("c1", CallState.WAITING, 10), 1)
    await asyncio.wait_for(ledger(WAITING).wait_for_change("c1", CallState.WAITING, 0.01), 1)


def test_only_finished_calls_are_removed_after_their_retention() -> None:
    over = replace(WAITING, id="over", state=CallState.ENDED, reason=CallReason.HUNG_UP)
    calls = ledger(over, JOINED)
    calls.remove_finished(NOW + 599)
    assert calls.get("over") == over
    calls.remove_finished(NOW + 601)
    assert [call.id for call in calls] == [JOINED.id]
