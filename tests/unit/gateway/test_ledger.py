"""The ledger: order, positions, dispatches in flight, and waiting for a change."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.agents import Agent
from gateway.calls.call import Call, CallReason, CallState
from gateway.calls.ledger import CALLER_EXPECTED_SECONDS, Ledger
from gateway.calls.seats import Seat
from gateway.calls.step import Admission
from tests.unit.gateway.fakes import example_agent
from tests.unit.gateway.scenes import DISPATCHED, JOINED, NOW, WAITING

KEY = WAITING.agent.key
ENDED = replace(WAITING, state=CallState.ENDED, reason=CallReason.HUNG_UP)


def waiting(number: int, agent: Agent = WAITING.agent) -> Call:
    """The waiting call of this number, in the order of creation. Its caller has come."""
    return replace(WAITING, id=f"c{number}", created_at=NOW + number, agent=agent, caller_seen_at=NOW)


def absent(number: int) -> Call:
    """The same call before its caller has come."""
    return replace(waiting(number), caller_seen_at=None)


def ledger_of(*calls: Call) -> Ledger:
    """A ledger with these calls."""
    ledger = Ledger()
    for call in calls:
        ledger.put(call)
    return ledger


def test_calls_wait_in_the_order_of_their_creation() -> None:
    of_other_agent = waiting(3, example_agent("other"))
    calls = ledger_of(waiting(2), waiting(1), of_other_agent, replace(DISPATCHED, id="c0"))
    assert [call.id for call in calls.waiting(KEY)] == ["c1", "c2"]
    assert [calls.position(call) for call in (waiting(1), waiting(2), of_other_agent)] == [1, 2, 1]
    assert calls.position(replace(DISPATCHED, id="c0")) is None
    assert calls.pending() == {KEY: 2, "agents/other": 1}


def test_admission_counts_free_slots_minus_dispatches_in_flight() -> None:
    in_flight = replace(DISPATCHED, id="d")
    just_joined = replace(JOINED, id="j", state_since=NOW - 1)
    long_joined = replace(JOINED, id="l", state_since=NOW - 3)
    calls = ledger_of(waiting(1), waiting(2), in_flight, just_joined, long_joined)
    assert calls.in_flight(KEY, NOW) == 2
    assert [calls.admission(KEY, 3, NOW, call) for call in (waiting(1), waiting(2))] == [
        Admission.FREE_SLOT,
        Admission.WAIT,
    ]
    assert calls.admission(KEY, 4, NOW) is Admission.WAIT, "a new call comes after all waiting calls"
    assert calls.admission(KEY, 5, NOW) is Admission.FREE_SLOT
    assert calls.admission("agents/other", 0, NOW) is Admission.WAIT


@given(present=st.lists(st.booleans(), max_size=12), free=st.integers(0, 12), now=st.floats(NOW, NOW + 20))
def test_free_slots_are_for_the_first_callers_that_come(present: list[bool], free: int, now: float) -> None:
    line = [waiting(number) if come else absent(number) for number, come in enumerate(present)]
    calls = ledger_of(*line)
    counted = [one for one in line if one.caller_seen_at or one.created_at >= now - CALLER_EXPECTED_SECONDS]
    admitted = [call for call in counted if calls.admission(KEY, free, now, call) is Admission.FREE_SLOT]
    assert admitted == counted[:free]
    assert calls.next_in_line(KEY, free, now) == counted[:free]
    assert calls.next_in_line(KEY, None, now) == counted
    is_free = len(counted) < free
    assert calls.admission(KEY, free, now) is (Admission.FREE_SLOT if is_free else Admission.WAIT)
    assert [calls.position(call) for call in line] == list(range(1, len(line) + 1)), "all keep their place"
    assert calls.pending() == ({KEY: len(line)} if line else {}), "and workers start for all of them"


def test_caller_who_comes_late_goes_before_later_calls() -> None:
    calls, now = ledger_of(absent(1), waiting(2)), NOW + 1 + CALLER_EXPECTED_SECONDS
    assert calls.admission(KEY, 1, now, waiting(2)) is Admission.WAIT, "the first caller is still expected"
    assert calls.admission(KEY, 1, now + 0.1, waiting(2)) is Admission.FREE_SLOT
    calls.put(waiting(1))
    assert calls.admission(KEY, 1, now + 0.1, waiting(2)) is Admission.WAIT
    assert calls.admission(KEY, 1, now + 0.1, waiting(1)) is Admission.FREE_SLOT
    calls.remove("c1")
    assert calls.next_in_line(KEY, None, now) == [waiting(2)]


def test_free_seats_exclude_assignments_not_reported_yet() -> None:
    in_flight = replace(DISPATCHED, id="d", seat=Seat(3, NOW - 2.5))
    just_joined = replace(JOINED, id="j", state_since=NOW - 1, seat=Seat(2, NOW - 2))
    reported = replace(JOINED, id="k", state_since=NOW - 3, seat=Seat(4, NOW - 4))
    of_other_agent = replace(DISPATCHED, id="e", agent=example_agent("other"), seat=Seat(1, NOW))
    without_avatar = replace(DISPATCHED, id="v", avatar=False)
    calls = ledger_of(WAITING, in_flight, just_joined, reported, of_other_agent, without_avatar)
    assert calls.free_seats(WAITING, 3, NOW) == 1
    assert calls.free_seats(in_flight, 3, NOW) == 1, "a repeated dispatch does not count the call's own seat"
    assert calls.free_seats(WAITING, None, NOW) is None


def test_every_call_is_admitted_while_slots_are_unknown() -> None:
    assert ledger_of(waiting(1)).admission(KEY, None, NOW) is Admission.SLOTS_UNKNOWN


async def test_change_of_state_ends_the_wait(virtual_time: asyncio.AbstractEventLoop) -> None:
    calls = ledger_of(WAITING)
    waiting_task = asyncio.create_task(calls.wait_for_change(WAITING.id, CallState.WAITING, 30))
    await asyncio.sleep(5)
    calls.put(replace(WAITING, caller_seen_at=NOW))
    await asyncio.sleep(5)
    assert not waiting_task.done(), "the state is the same"
    calls.put(DISPATCHED)
    await waiting_task
    assert virtual_time.time() == pytest.approx(10)


@pytest.mark.parametrize(
    ("calls", "state", "seconds"),
    [
        ([DISPATCHED], CallState.WAITING, 0),
        ([ENDED], CallState.ENDED, 0),
        ([], CallState.WAITING, 0),
        ([WAITING], CallState.WAITING, 30),
    ],
    ids=["another state", "finished", "unknown", "same state"],
)
async def test_wait_ends_at_once_unless_the_state_is_the_known_one(
    virtual_time: asyncio.AbstractEventLoop, calls: list[Call], state: CallState, seconds: float
) -> None:
    await ledger_of(*calls).wait_for_change("c1", state, 30)
    assert virtual_time.time() == pytest.approx(seconds)


def test_only_finished_calls_are_removed_after_their_retention() -> None:
    ended = replace(ENDED, id="ended")
    calls = ledger_of(ended, JOINED)
    calls.remove_finished(NOW + 599)
    assert calls.get("ended") == ended
    calls.remove_finished(NOW + 601)
    assert [call.id for call in calls] == [JOINED.id]
