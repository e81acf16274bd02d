"""Order, positions, slots in flight, and waiting for a change."""

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


def test_calls_wait_in_the_order_in_which_they_came() -> None:
    elsewhere = waiting(3, example_agent("other"))
    calls = ledger(waiting(2), waiting(1), elsewhere, replace(DISPATCHED, id="c0"))
    assert [call.id for call in calls.waiting(KEY)] == ["c1", "c2"]
    assert [calls.position(call) for call in (waiting(1), waiting(2), elsewhere)] == [1, 2, 1]
    assert calls.position(replace(DISPATCHED, id="c0")) is None
    assert calls.pending() == {KEY: 2, "agents/other": 1}


def test_as_many_calls_go_as_slots_are_free_and_not_spoken_for() -> None:
    in_flight = replace(DISPATCHED, id="d")
    just_joined = replace(JOINED, id="j", state_since=NOW - 1)
    long_joined = replace(JOINED, id="l", state_since=NOW - 3)
    calls = ledger(waiting(1), waiting(2), in_flight, just_joined, long_joined)
    assert calls.in_flight(KEY, NOW) == 2
    assert [calls.admission(KEY, 3, NOW, call) for call in (waiting(1), waiting(2))] == [
        Admission.FREE_SLOT,
        Admission.WAIT,
    ]
    assert calls.admission(KEY, 4, NOW) is Admission.WAIT, "a new call stands behind those that wait"
    assert calls.admission(KEY, 5, NOW) is Admission.FREE_SLOT
    assert calls.admission("agents/other", 0, NOW) is Admission.WAIT


def test_seats_of_calls_under_way_are_spoken_for_until_the_controller_knows_of_them() -> None:
    under_way = replace(DISPATCHED, id="d", seat=Seat(3, NOW - 2.5))
    just_joined = replace(JOINED, id="j", state_since=NOW - 1, seat=Seat(2, NOW - 2))
    known_by_now = replace(JOINED, id="k", state_since=NOW - 3, seat=Seat(4, NOW - 4))
    elsewhere = replace(DISPATCHED, id="e", agent=example_agent("other"), seat=Seat(1, NOW))
    by_voice = replace(DISPATCHED, id="v", avatar=False)
    calls = ledger(WAITING, under_way, just_joined, known_by_now, elsewhere, by_voice)
    assert calls.free_seats(WAITING, 3, NOW) == 1
    assert calls.free_seats(under_way, 3, NOW) == 1, "a call that is sent again does not stand in its own way"
    assert calls.free_seats(WAITING, None, NOW) is None


def test_without_knowledge_every_call_goes() -> None:
    assert ledger(waiting(1)).admission(KEY, None, NOW) is Admission.SLOTS_UNKNOWN


async def test_a_change_of_state_wakes_those_who_ask() -> None:
    calls = ledger(WAITING)
    asking = asyncio.create_task(calls.wait_for_change(WAITING.id, CallState.WAITING, 10))
    await asyncio.sleep(0)
    calls.put(replace(WAITING, caller_seen_at=NOW))
    await asyncio.sleep(0)
    assert not asking.done(), "the state is the same"
    calls.put(DISPATCHED)
    await asyncio.wait_for(asking, 1)


async def test_a_question_ends_at_once_when_the_state_is_another_or_the_call_is_over() -> None:
    over = replace(WAITING, state=CallState.ENDED, reason=CallReason.HUNG_UP)
    await asyncio.wait_for(ledger(DISPATCHED).wait_for_change("c1", CallState.WAITING, 10), 1)
    await asyncio.wait_for(ledger(over).wait_for_change("c1", CallState.ENDED, 10), 1)
    await asyncio.wait_for(ledger().wait_for_change("c1", CallState.WAITING, 10), 1)
    await asyncio.wait_for(ledger(WAITING).wait_for_change("c1", CallState.WAITING, 0.01), 1)


def test_old_outcomes_are_forgotten_and_live_calls_never() -> None:
    over = replace(WAITING, id="over", state=CallState.ENDED, reason=CallReason.HUNG_UP)
    calls = ledger(over, JOINED)
    calls.remove_finished(NOW + 599)
    assert calls.get("over") == over
    calls.remove_finished(NOW + 601)
    assert [call.id for call in calls] == [JOINED.id]
