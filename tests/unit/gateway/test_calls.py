"""What follows from one look at a call's room."""

from dataclasses import replace

import pytest

from agentspec.wire import REPORTED_OUTCOMES, CallOutcome, read_dispatch_metadata
from gateway.agents import Agent
from gateway.calls import (
    MESSAGES,
    OUTCOMES,
    Admission,
    Call,
    CallReason,
    CallState,
    Cause,
    Effect,
    RoomSnapshot,
    assign_seat,
    step,
    unavailable_reason,
)
from gateway.seats import Seat
from tests.unit.gateway.fakes import example_agent

NOW = 1000.0
JOIN_TIMEOUT = 6
WAITING = Call(
    id="c1",
    agent=example_agent(join_timeout_seconds=JOIN_TIMEOUT),
    agent_name="ornina-agent",
    room="ornina-c1",
    identity="caller-c1",
    request_hash="h",
    call_token_hash="t",
    dispatch_metadata="{}",
    state=CallState.WAITING,
    created_at=NOW,
    search_started_at=NOW,
    state_since=NOW,
)
DISPATCHED = replace(WAITING, state=CallState.DISPATCHED, causes=(Cause.FIRST,), free_slot_known=True)
JOINED = replace(DISPATCHED, state=CallState.JOINED, caller_seen_at=NOW, agent_seen_at=NOW)

NOBODY = RoomSnapshot(exists=True, caller_present=False, agent_present=False, accepted=False)
CALLER = replace(NOBODY, caller_present=True)
TAKEN = replace(CALLER, accepted=True)
BOTH = replace(CALLER, agent_present=True)
AGENT = replace(BOTH, caller_present=False)
NO_ROOM = replace(NOBODY, exists=False)


@pytest.mark.parametrize(
    ("sentence", "call", "seen", "admission", "after", "state", "effect"),
    [
        ("waits while no slot is free", WAITING, CALLER, Admission.WAIT, 1, CallState.WAITING, Effect.NONE),
        (
            "is dispatched when a slot is free",
            WAITING,
            CALLER,
            Admission.FREE_SLOT,
            1,
            CallState.DISPATCHED,
            Effect.DISPATCH,
        ),
        ("is dispatched blind", WAITING, CALLER, Admission.SLOTS_UNKNOWN, 1, CallState.DISPATCHED, Effect.DISPATCH),
        ("never into an empty room", WAITING, NOBODY, Admission.FREE_SLOT, 1, CallState.WAITING, Effect.NONE),
        ("has joined when an agent came late", WAITING, BOTH, Admission.FREE_SLOT, 1, CallState.JOINED, Effect.NONE),
        (
            "keeps an agent that came at the last moment",
            WAITING,
            BOTH,
            Admission.WAIT,
            121,
            CallState.JOINED,
            Effect.NONE,
        ),
        ("fails when no slot came", WAITING, CALLER, Admission.WAIT, 121, CallState.FAILED, Effect.HANG_UP),
        ("ends when nobody came", WAITING, NOBODY, Admission.WAIT, 61, CallState.ENDED, Effect.HANG_UP),
        ("ends when its room is gone", WAITING, NO_ROOM, Admission.FREE_SLOT, 1, CallState.ENDED, Effect.HANG_UP),
        ("stays when LiveKit is silent", WAITING, None, Admission.FREE_SLOT, 1, CallState.WAITING, Effect.NONE),
        (
            "gives up when LiveKit stays silent",
            WAITING,
            None,
            Admission.FREE_SLOT,
            121,
            CallState.FAILED,
            Effect.HANG_UP,
        ),
        ("has joined once seen", DISPATCHED, BOTH, Admission.WAIT, 0.4, CallState.JOINED, Effect.NONE),
        (
            "joins before its caller",
            DISPATCHED,
            replace(BOTH, caller_present=False),
            Admission.WAIT,
            1,
            CallState.JOINED,
            Effect.NONE,
        ),
        ("gives the workers time", DISPATCHED, CALLER, Admission.FREE_SLOT, 2.4, CallState.DISPATCHED, Effect.NONE),
        ("waits again when none took it", DISPATCHED, CALLER, Admission.FREE_SLOT, 2.6, CallState.WAITING, Effect.HOLD),
        ("gives the taker its time", DISPATCHED, TAKEN, Admission.FREE_SLOT, 5.9, CallState.DISPATCHED, Effect.NONE),
        (
            "is sent again when the taker died",
            DISPATCHED,
            TAKEN,
            Admission.FREE_SLOT,
            6,
            CallState.DISPATCHED,
            Effect.DISPATCH,
        ),
        (
            "stays joined without a caller for a while",
            JOINED,
            NOBODY,
            Admission.WAIT,
            29,
            CallState.JOINED,
            Effect.NONE,
        ),
        ("ends when its caller has gone", JOINED, NOBODY, Admission.WAIT, 31, CallState.ENDED, Effect.HANG_UP),
        ("outlives LiveKit's silence", JOINED, None, Admission.WAIT, 3000, CallState.JOINED, Effect.NONE),
        ("is not followed for ever", JOINED, None, Admission.WAIT, 3661, CallState.ENDED, Effect.HANG_UP),
        ("gives a vanished agent time", JOINED, CALLER, Admission.WAIT, 5, CallState.JOINED, Effect.NONE),
        ("replaces a lost agent", JOINED, CALLER, Admission.WAIT, 5.1, CallState.DISPATCHED, Effect.DISPATCH),
        ("goes on", JOINED, BOTH, Admission.WAIT, 3600, CallState.JOINED, Effect.NONE),
        ("ends when it is far too long", JOINED, BOTH, Admission.WAIT, 3661, CallState.ENDED, Effect.HANG_UP),
        ("is over when its room is gone", JOINED, NO_ROOM, Admission.WAIT, 9, CallState.ENDED, Effect.HANG_UP),
    ],
)
def test_a_call(
    sentence: str,
    call: Call,
    seen: RoomSnapshot | None,
    admission: Admission,
    after: float,
    state: CallState,
    effect: Effect,
) -> None:
    taken = step(call, seen, admission, NOW + after)
    assert (taken.call.state, taken.effect) == (state, effect), sentence
    assert taken.call.state_since == (NOW + after if (state, effect) != (call.state, Effect.NONE) else call.state_since)
    assert (taken.call.reason == CallReason.NONE) == taken.call.is_live, "a reason for every end, and none before"


def test_every_reason_has_a_message() -> None:
    assert set(MESSAGES) == set(CallReason) - {CallReason.NONE}


@pytest.mark.parametrize(
    ("call", "seen", "after", "reason"),
    [
        (WAITING, CALLER, 121, CallReason.NO_FREE_SLOT),
        (WAITING, NOBODY, 61, CallReason.CALLER_NEVER_CAME),
        (replace(WAITING, caller_seen_at=NOW), NOBODY, 11, CallReason.CALLER_LEFT),
        (WAITING, NO_ROOM, 1, CallReason.CALLER_NEVER_CAME),
        (replace(WAITING, caller_seen_at=NOW), NO_ROOM, 1, CallReason.CALLER_LEFT),
        (replace(DISPATCHED, times_declined=1), CALLER, 2.6, CallReason.NOT_ANSWERED),
        (replace(DISPATCHED, causes=(Cause.FIRST, Cause.JOB_DIED)), TAKEN, 6, CallReason.AGENT_DID_NOT_JOIN),
        (replace(JOINED, causes=(Cause.FIRST, Cause.AGENT_LOST)), CALLER, 6, CallReason.AGENT_LOST),
        (JOINED, NO_ROOM, 5, CallReason.FINISHED),
        (JOINED, replace(CALLER, outcome=CallOutcome.MAX_LENGTH), 1, CallReason.TOO_LONG),
        (JOINED, replace(CALLER, outcome=CallOutcome.PROVIDER_FAILED), 1, CallReason.PROVIDER_FAILED),
        (JOINED, replace(CALLER, outcome=CallOutcome.AVATAR_FAILED), 1, CallReason.AVATAR_FAILED),
        (JOINED, replace(CALLER, outcome=CallOutcome.NO_AVATAR_SEAT), 1, CallReason.NO_AVATAR_SEAT),
        (DISPATCHED, replace(CALLER, outcome=CallOutcome.NO_AVATAR_SEAT), 1, CallReason.NO_AVATAR_SEAT),
        (JOINED, replace(CALLER, outcome="something new"), 1, CallReason.NONE),
        (JOINED, replace(CALLER, outcome=CallOutcome.CRASHED), 1, CallReason.NONE),
        (JOINED, NOBODY, 31, CallReason.CALLER_LEFT),
        (JOINED, BOTH, 3661, CallReason.TOO_LONG),
        (DISPATCHED, None, 121, CallReason.LIVEKIT_UNREACHABLE),
    ],
)
def test_an_end_has_its_reason(call: Call, seen: RoomSnapshot | None, after: float, reason: CallReason) -> None:
    assert step(call, seen, Admission.WAIT, NOW + after).call.reason is reason


def test_a_declined_call_pauses_and_is_sent_once_more() -> None:
    back = step(DISPATCHED, CALLER, Admission.FREE_SLOT, NOW + 2.6).call
    assert step(back, CALLER, Admission.FREE_SLOT, NOW + 3.5).call.state is CallState.WAITING
    again = step(back, CALLER, Admission.FREE_SLOT, NOW + 3.7).call
    assert again.causes == (Cause.FIRST, Cause.NOT_TAKEN)
    assert step(again, CALLER, Admission.FREE_SLOT, NOW + 6.3).call.reason is CallReason.NOT_ANSWERED


def test_a_call_sent_blind_is_never_taken_for_declined() -> None:
    call = replace(DISPATCHED, free_slot_known=False)
    now = NOW
    while call.state is not CallState.FAILED:
        now += 2.6
        call = step(call, CALLER, Admission.SLOTS_UNKNOWN, now).call
        assert now < NOW + 130
    assert call.reason is CallReason.NO_FREE_SLOT
    assert now > NOW + 119


def test_a_replaced_agent_is_searched_for_as_long_as_a_first_one() -> None:
    late = NOW + 1800
    call = replace(JOINED, caller_seen_at=late, agent_seen_at=late)
    lost = step(call, CALLER, Admission.WAIT, late + 6).call
    back = step(lost, CALLER, Admission.WAIT, late + 9).call
    assert back.state is CallState.WAITING
    assert step(back, CALLER, Admission.WAIT, late + 120).call.state is CallState.WAITING
    assert step(back, CALLER, Admission.WAIT, late + 127).call.reason is CallReason.NO_FREE_SLOT


@pytest.mark.parametrize(
    ("call", "after", "reason"),
    [
        (WAITING, 1, CallReason.AGENT_NOT_FOUND),
        (DISPATCHED, 1, CallReason.NONE),
        (DISPATCHED, 121, CallReason.AGENT_NOT_FOUND),
        (JOINED, 121, CallReason.NONE),
    ],
    ids=["who waits learns it at once", "an agent may be on its way", "and never came", "in progress"],
)
def test_an_agent_deleted_with_its_secret_is_the_reason(call: Call, after: float, reason: CallReason) -> None:
    assert step(call, None, Admission.WAIT, NOW + after, CallReason.AGENT_NOT_FOUND).call.reason is reason


@pytest.mark.parametrize(
    ("closed_agent", "reason"),
    [
        (example_agent(), CallReason.NONE),
        (example_agent(suspend=True), CallReason.SUSPENDED),
        (replace(example_agent(), name_taken=True), CallReason.NAME_TAKEN),
        (None, CallReason.AGENT_NOT_FOUND),
    ],
)
def test_an_agent_that_takes_no_calls_has_its_reason(closed_agent: Agent | None, reason: CallReason) -> None:
    assert unavailable_reason(closed_agent) is reason


def test_calls_that_wait_for_a_closed_agent_end_and_those_in_progress_go_on() -> None:
    def after(call: Call, seen: RoomSnapshot) -> Call:
        return step(call, seen, Admission.FREE_SLOT, NOW + 1, CallReason.SUSPENDED).call

    assert after(WAITING, CALLER).reason is CallReason.SUSPENDED
    assert after(WAITING, BOTH).state is CallState.JOINED, "its agent came at the last moment"
    assert after(DISPATCHED, CALLER).state is CallState.DISPATCHED
    assert after(JOINED, BOTH).state is CallState.JOINED


@pytest.mark.parametrize(
    ("free", "avatar", "seat"),
    [(None, True, None), (2, True, Seat(2, NOW)), (1, True, Seat(1, NOW)), (0, False, None), (-1, False, None)],
)
def test_a_call_is_dispatched_with_an_avatar_while_a_seat_is_free(
    free: int | None, avatar: bool, seat: Seat | None
) -> None:
    call = assign_seat(replace(WAITING, dispatch_metadata='{"callID": "c1"}', seat=Seat(9, 0.0)), free, NOW)
    assert (call.avatar, call.seat) == (avatar, seat)
    assert read_dispatch_metadata(call.dispatch_metadata)[0].avatar is avatar


def test_nothing_follows_the_end() -> None:
    over = step(WAITING, NO_ROOM, Admission.FREE_SLOT, NOW + 1).call
    assert step(over, BOTH, Admission.FREE_SLOT, NOW + 2).call == over
    assert step(over, BOTH, Admission.FREE_SLOT, NOW + 2).effect is Effect.NONE


def test_every_outcome_that_a_worker_reports_has_a_reason() -> None:
    assert set(OUTCOMES) == REPORTED_OUTCOMES
