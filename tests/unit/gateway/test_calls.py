"""The state machine of a call."""

from dataclasses import replace

import pytest

from agentspec.wire import REPORTED_OUTCOMES, CallOutcome, read_dispatch_metadata
from gateway.agents import Agent
from gateway.calls.call import MESSAGES, OUTCOMES, Call, CallReason, CallState, Cause
from gateway.calls.seats import Seat
from gateway.calls.step import MAX_DECLINES, Admission, Effect, RoomSnapshot, assign_seat, step, unavailable_reason
from tests.unit.gateway.fakes import example_agent
from tests.unit.gateway.scenes import DISPATCHED, JOINED, NOW, WAITING

EMPTY = RoomSnapshot(exists=True, caller_present=False, agent_present=False, accepted=False)
CALLER = replace(EMPTY, caller_present=True)
ACCEPTED = replace(CALLER, accepted=True)
BOTH = replace(CALLER, agent_present=True)
AGENT = replace(BOTH, caller_present=False)
NO_ROOM = replace(EMPTY, exists=False)

WAIT, FREE, UNKNOWN = Admission.WAIT, Admission.FREE_SLOT, Admission.SLOTS_UNKNOWN


@pytest.mark.parametrize(
    ("call", "room", "admission", "after", "state", "effect"),
    [
        pytest.param(*values, id=name)
        for name, *values in (
            ("waits without a free slot", WAITING, CALLER, WAIT, 1, CallState.WAITING, Effect.NONE),
            ("dispatched to a free slot", WAITING, CALLER, FREE, 1, CallState.DISPATCHED, Effect.DISPATCH),
            ("dispatched with unknown slots", WAITING, CALLER, UNKNOWN, 1, CallState.DISPATCHED, Effect.DISPATCH),
            ("not dispatched without a caller", WAITING, EMPTY, FREE, 1, CallState.WAITING, Effect.NONE),
            ("joined by a late agent", WAITING, BOTH, FREE, 1, CallState.JOINED, Effect.NONE),
            ("joined at the search timeout", WAITING, BOTH, WAIT, 121, CallState.JOINED, Effect.NONE),
            ("fails at the search timeout", WAITING, CALLER, WAIT, 121, CallState.FAILED, Effect.HANG_UP),
            ("ends when no caller connects", WAITING, EMPTY, WAIT, 61, CallState.ENDED, Effect.HANG_UP),
            ("ends with its room", WAITING, NO_ROOM, FREE, 1, CallState.ENDED, Effect.HANG_UP),
            ("waits without LiveKit", WAITING, None, FREE, 1, CallState.WAITING, Effect.NONE),
            ("fails without LiveKit", WAITING, None, FREE, 121, CallState.FAILED, Effect.HANG_UP),
            ("joined by the agent", DISPATCHED, BOTH, WAIT, 0.4, CallState.JOINED, Effect.NONE),
            ("joined before the caller", DISPATCHED, AGENT, WAIT, 1, CallState.JOINED, Effect.NONE),
            ("within the accept timeout", DISPATCHED, CALLER, FREE, 2.4, CallState.DISPATCHED, Effect.NONE),
            ("waits again if not accepted", DISPATCHED, CALLER, FREE, 2.6, CallState.WAITING, Effect.HOLD),
            ("within the join timeout", DISPATCHED, ACCEPTED, FREE, 5.9, CallState.DISPATCHED, Effect.NONE),
            ("dispatched again if not joined", DISPATCHED, ACCEPTED, FREE, 6, CallState.DISPATCHED, Effect.DISPATCH),
            ("joined, caller briefly absent", JOINED, EMPTY, WAIT, 29, CallState.JOINED, Effect.NONE),
            ("ends when the caller left", JOINED, EMPTY, WAIT, 31, CallState.ENDED, Effect.HANG_UP),
            ("joined without LiveKit", JOINED, None, WAIT, 3000, CallState.JOINED, Effect.NONE),
            ("too long without LiveKit", JOINED, None, WAIT, 3661, CallState.ENDED, Effect.HANG_UP),
            ("joined, agent briefly absent", JOINED, CALLER, WAIT, 5, CallState.JOINED, Effect.NONE),
            ("replaces a lost agent", JOINED, CALLER, WAIT, 5.1, CallState.DISPATCHED, Effect.DISPATCH),
            ("joined at maximum duration", JOINED, BOTH, WAIT, 3600, CallState.JOINED, Effect.NONE),
            ("ends after maximum duration", JOINED, BOTH, WAIT, 3661, CallState.ENDED, Effect.HANG_UP),
            ("joined call ends with its room", JOINED, NO_ROOM, WAIT, 9, CallState.ENDED, Effect.HANG_UP),
        )
    ],
)
def test_next_state_and_effect_of_a_call(
    call: Call, room: RoomSnapshot | None, admission: Admission, after: float, state: CallState, effect: Effect
) -> None:
    following = step(call, room, admission, NOW + after)
    assert (following.call.state, following.effect) == (state, effect)
    changed = (state, effect) != (call.state, Effect.NONE)
    assert following.call.state_since == (NOW + after if changed else call.state_since)
    assert (following.call.reason == CallReason.NONE) == following.call.is_live


def test_every_reason_has_a_message() -> None:
    assert set(MESSAGES) == set(CallReason) - {CallReason.NONE}


@pytest.mark.parametrize(
    ("call", "room", "after", "reason"),
    [
        (WAITING, CALLER, 121, CallReason.NO_FREE_SLOT),
        (WAITING, EMPTY, 61, CallReason.CALLER_NEVER_CAME),
        (replace(WAITING, created_at=NOW - 300, foreign=True), EMPTY, 59, CallReason.NONE),
        (replace(WAITING, created_at=NOW - 300, foreign=True), EMPTY, 61, CallReason.CALLER_NEVER_CAME),
        (replace(JOINED, caller_seen_at=None, foreign=True), AGENT, 59, CallReason.NONE),
        (replace(WAITING, caller_seen_at=NOW), EMPTY, 11, CallReason.CALLER_LEFT),
        (WAITING, NO_ROOM, 1, CallReason.CALLER_NEVER_CAME),
        (replace(WAITING, caller_seen_at=NOW), NO_ROOM, 1, CallReason.CALLER_LEFT),
        (replace(DISPATCHED, times_declined=MAX_DECLINES - 1), CALLER, 2.6, CallReason.NOT_ANSWERED),
        (replace(DISPATCHED, causes=(Cause.FIRST, Cause.JOB_DIED)), ACCEPTED, 6, CallReason.AGENT_DID_NOT_JOIN),
        (replace(JOINED, causes=(Cause.FIRST, Cause.AGENT_LOST)), CALLER, 6, CallReason.AGENT_LOST),
        (JOINED, NO_ROOM, 5, CallReason.FINISHED),
        (JOINED, replace(CALLER, outcome=CallOutcome.MAX_LENGTH), 1, CallReason.TOO_LONG),
        (JOINED, replace(CALLER, outcome=CallOutcome.CALLER_IDLE), 1, CallReason.CALLER_IDLE),
        (JOINED, replace(CALLER, outcome=CallOutcome.PROVIDER_FAILED), 1, CallReason.PROVIDER_FAILED),
        (JOINED, replace(CALLER, outcome=CallOutcome.AVATAR_FAILED), 1, CallReason.AVATAR_FAILED),
        (JOINED, replace(CALLER, outcome=CallOutcome.NO_AVATAR_SEAT), 1, CallReason.NO_AVATAR_SEAT),
        (DISPATCHED, replace(CALLER, outcome=CallOutcome.NO_AVATAR_SEAT), 1, CallReason.NO_AVATAR_SEAT),
        (JOINED, replace(CALLER, outcome="something new"), 1, CallReason.NONE),
        (JOINED, replace(CALLER, outcome=CallOutcome.CRASHED), 1, CallReason.NONE),
        (JOINED, EMPTY, 31, CallReason.CALLER_LEFT),
        (JOINED, BOTH, 3661, CallReason.TOO_LONG),
        (DISPATCHED, None, 121, CallReason.LIVEKIT_UNREACHABLE),
    ],
)
def test_ended_call_has_its_reason(call: Call, room: RoomSnapshot | None, after: float, reason: CallReason) -> None:
    assert step(call, room, WAIT, NOW + after).call.reason is reason


@pytest.mark.parametrize(
    ("call", "room", "grace", "reason"),
    [
        (replace(WAITING, caller_seen_at=NOW), EMPTY, 10, CallReason.CALLER_LEFT),
        (JOINED, AGENT, 30, CallReason.CALLER_LEFT),
        (replace(JOINED, causes=(Cause.FIRST, Cause.AGENT_LOST)), CALLER, 5, CallReason.AGENT_LOST),
    ],
    ids=["waiting caller", "joined caller", "agent"],
)
def test_absence_counts_until_the_last_check(call: Call, room: RoomSnapshot, grace: float, reason: CallReason) -> None:
    """In a crowd, reads of a room may be many seconds apart, and whoever was absent once may be back."""
    early = replace(room, checked_at=NOW + grace)
    assert step(call, early, WAIT, NOW + grace + 60).call.is_live
    assert step(call, replace(room, checked_at=NOW + grace + 1), WAIT, NOW + grace + 60).call.reason is reason
    assert step(call, early, WAIT, NOW + grace + 61).call.reason is reason, "no read confirms it"


def test_declined_call_is_dispatched_again_after_a_pause() -> None:
    back = step(DISPATCHED, CALLER, FREE, NOW + 2.6).call
    assert step(back, CALLER, FREE, NOW + 3.5).call.state is CallState.WAITING
    again = step(back, CALLER, FREE, NOW + 3.7).call
    assert again.causes == (Cause.FIRST, Cause.NOT_TAKEN)


def test_call_fails_after_the_last_decline() -> None:
    call, now = DISPATCHED, NOW
    while call.state is not CallState.FAILED:
        now += 0.1
        call = step(call, CALLER, FREE, now).call
    assert call.reason is CallReason.NOT_ANSWERED
    assert call.times_declined == MAX_DECLINES - 1
    assert now - NOW == pytest.approx(MAX_DECLINES * 2.5 + (MAX_DECLINES - 1) * 1.0, abs=1.0)


def test_declines_of_a_worker_that_is_lost_by_now_do_not_count() -> None:
    call, now = DISPATCHED, NOW
    while now < NOW + 35:  # the controller notices after 8 s, and another worker has started after 12
        now += 0.1
        call = step(call, CALLER, WAIT if NOW + 8 < now < NOW + 12 else FREE, now).call
    assert call.state is not CallState.FAILED
    assert len(call.causes) > MAX_DECLINES


def test_dispatch_with_unknown_slots_is_never_counted_as_declined() -> None:
    call = replace(DISPATCHED, free_slot_known=False)
    now = NOW
    while call.state is not CallState.FAILED:
        now += 2.6
        call = step(call, CALLER, UNKNOWN, now).call
        assert now < NOW + 130
    assert call.reason is CallReason.NO_FREE_SLOT
    assert now > NOW + 119


def test_search_for_a_replacement_has_the_full_timeout() -> None:
    late = NOW + 1800
    call = replace(JOINED, caller_seen_at=late, agent_seen_at=late)
    lost = step(call, CALLER, WAIT, late + 6).call
    back = step(lost, CALLER, WAIT, late + 9).call
    assert back.state is CallState.WAITING
    assert step(back, CALLER, WAIT, late + 120).call.state is CallState.WAITING
    assert step(back, CALLER, WAIT, late + 127).call.reason is CallReason.NO_FREE_SLOT


@pytest.mark.parametrize(
    ("call", "after", "reason"),
    [
        (WAITING, 1, CallReason.AGENT_NOT_FOUND),
        (DISPATCHED, 1, CallReason.NONE),
        (DISPATCHED, 121, CallReason.AGENT_NOT_FOUND),
        (JOINED, 121, CallReason.NONE),
    ],
    ids=["waiting", "dispatched", "dispatched, search timed out", "joined"],
)
def test_deleted_agent_is_the_reason_when_livekit_is_not_read(call: Call, after: float, reason: CallReason) -> None:
    assert step(call, None, WAIT, NOW + after, CallReason.AGENT_NOT_FOUND).call.reason is reason


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (example_agent(), CallReason.NONE),
        (example_agent(suspend=True), CallReason.SUSPENDED),
        (replace(example_agent(), name_taken=True), CallReason.NAME_TAKEN),
        (None, CallReason.AGENT_NOT_FOUND),
    ],
)
def test_agent_that_takes_no_calls_has_a_reason(agent: Agent | None, reason: CallReason) -> None:
    assert unavailable_reason(agent) is reason


def test_unavailable_agent_fails_waiting_calls_only() -> None:
    def after(call: Call, room: RoomSnapshot) -> Call:
        return step(call, room, FREE, NOW + 1, CallReason.SUSPENDED).call

    assert after(WAITING, CALLER).reason is CallReason.SUSPENDED
    assert after(WAITING, BOTH).state is CallState.JOINED, "the agent joined late"
    assert after(DISPATCHED, CALLER).state is CallState.DISPATCHED
    assert after(JOINED, BOTH).state is CallState.JOINED


@pytest.mark.parametrize(
    ("free", "avatar", "seat"),
    [(None, True, None), (2, True, Seat(2, NOW)), (1, True, Seat(1, NOW)), (0, False, None), (-1, False, None)],
)
def test_call_is_dispatched_with_an_avatar_while_a_seat_is_free(
    free: int | None, avatar: bool, seat: Seat | None
) -> None:
    call = assign_seat(replace(WAITING, dispatch_metadata='{"callID": "c1"}', seat=Seat(9, 0.0)), free, NOW)
    assert (call.avatar, call.seat) == (avatar, seat)
    assert read_dispatch_metadata(call.dispatch_metadata)[0].avatar is avatar


@pytest.mark.parametrize("free", [None, 2, 0], ids=["no limit", "free seats", "no free seat"])
def test_caller_without_video_takes_no_seat(free: int | None) -> None:
    metadata = '{"callID": "c1", "capabilities": ["captions"]}'
    call = assign_seat(replace(WAITING, dispatch_metadata=metadata, seat=Seat(9, 0.0)), free, NOW)
    assert (call.avatar, call.seat) == (True, None), "the call lacks nothing: its worker starts no avatar"
    assert read_dispatch_metadata(call.dispatch_metadata)[0].avatar


def test_finished_call_never_changes() -> None:
    over = step(WAITING, NO_ROOM, FREE, NOW + 1).call
    assert step(over, BOTH, FREE, NOW + 2).call == over
    assert step(over, BOTH, FREE, NOW + 2).effect is Effect.NONE


def test_every_reported_outcome_has_a_reason() -> None:
    assert set(OUTCOMES) == REPORTED_OUTCOMES
