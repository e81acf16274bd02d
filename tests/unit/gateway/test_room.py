"""What the gateway knows of a room, from lists, reads and reports in any order."""

from dataclasses import replace

import pytest

from agentspec.wire import CallOutcome, JobReport, JobState, agent_identity, render
from gateway.calls.call import Call
from gateway.calls.effects import record_of
from gateway.calls.room import (
    ABSENT_READ_SECONDS,
    DISPATCHED_READ_SECONDS,
    HEARD_READ_SECONDS,
    LIST_LAG_SECONDS,
    MISSING_ROOM_SECONDS,
    ROUTINE_READ_SECONDS,
    CallRoom,
)
from gateway.livekit.server import Participant, Room
from tests.unit.gateway.scenes import DISPATCHED, JOINED, NOW, WAITING

CALLER = Participant(WAITING.identity, is_agent=False, agent_name="", joined_at=1)
LISTED = Room(WAITING.room, "", sid="RM_1", participants=1, publishers=1)


def agent(job_id: str, joined_at: int = 2) -> Participant:
    return Participant(agent_identity(job_id), is_agent=True, agent_name=WAITING.agent_name, joined_at=joined_at)


def job(job_id: str, state: JobState, outcome: CallOutcome | str = "") -> JobReport:
    return JobReport(job_id=job_id, room=WAITING.room, state=state, outcome=outcome)


def room_of(call: Call = DISPATCHED) -> CallRoom:
    """The room of a call that was just dispatched."""
    room = CallRoom(call.identity, call.agent_name)
    room.dispatched(NOW)
    return room


def with_agent(job_id: str = "1") -> CallRoom:
    """A room with caller and agent."""
    room = room_of()
    room.participants([CALLER], NOW)
    room.reported(job(job_id, JobState.STARTING), NOW)
    room.reported(job(job_id, JobState.JOINED), NOW)
    return room


def test_report_says_that_a_worker_accepted_and_that_the_agent_joined() -> None:
    room = room_of()
    assert room.reported(job("1", JobState.STARTING), NOW)
    assert (room.snapshot(NOW).accepted, room.snapshot(NOW).agent_present) == (True, False)
    assert room.reported(job("1", JobState.JOINED), NOW + 1)
    assert room.snapshot(NOW + 1).agent_present
    assert room.agent_seen_at == NOW + 1


def test_event_makes_a_read_due_and_changes_nothing_else() -> None:
    room, other = with_agent(), with_agent()
    room.participants([CALLER, agent("1")], NOW)
    other.participants([CALLER, agent("1")], NOW)
    room.event(NOW + 0.5)
    room.event(NOW + 0.5)
    assert room.snapshot(NOW + 1) == other.snapshot(NOW + 1)
    assert room.read_due(JOINED, heard=True) <= NOW < other.read_due(JOINED, heard=True)
    room.participants([CALLER, agent("1")], NOW + 0.4)
    assert room.read_due(JOINED, heard=True) <= NOW + 0.4, "the read began before the event"
    room.participants([CALLER, agent("1")], NOW + 0.6)
    assert room.read_due(JOINED, heard=True) == NOW + 0.6 + ROUTINE_READ_SECONDS


def test_repeated_report_is_no_news() -> None:
    room = with_agent()
    assert not room.reported(job("1", JobState.JOINED), NOW + 1)


def test_lost_worker_makes_its_agent_a_ghost_at_once() -> None:
    room = with_agent()
    assert room.worker_lost(job("1", JobState.JOINED), NOW + 5)
    snapshot = room.snapshot(NOW + 5)
    assert (snapshot.agent_lost, snapshot.agent_present) == (True, False)
    room.participants([CALLER, agent("1")], NOW + 6)
    assert not room.snapshot(NOW + 6).agent_present, "LiveKit still lists it, and it is a ghost all the same"
    assert room.ghosts == {agent_identity("1")}
    room.participants([CALLER], NOW + 25)
    assert room.ghosts == set()
    assert not room.worker_lost(job("1", JobState.JOINED), NOW + 26), "it is known already"


def test_agent_of_another_worker_is_not_lost_with_the_first() -> None:
    room = with_agent("1")
    room.worker_lost(job("1", JobState.JOINED), NOW + 1)
    room.dispatched(NOW + 1)
    room.reported(job("2", JobState.STARTING), NOW + 2)
    room.reported(job("2", JobState.JOINED), NOW + 2)
    assert not room.worker_lost(job("1", JobState.JOINED), NOW + 3)
    assert not room.reported(job("1", JobState.ENDED), NOW + 3), "a job of an earlier dispatch"
    snapshot = room.snapshot(NOW + 3)
    assert (snapshot.agent_present, snapshot.agent_lost) == (True, False)


@pytest.mark.parametrize(
    ("outcome", "lost"),
    [
        ("", True),
        (CallOutcome.CRASHED, True),
        (CallOutcome.STOPPED, False),
        (CallOutcome.CALLER_LEFT, False),
        (CallOutcome.ROOM_CLOSED, False),
        ("an outcome of a newer worker", False),
    ],
)
def test_job_that_ends_without_ending_its_call_is_lost(outcome: str, lost: bool) -> None:
    room = with_agent()
    room.reported(job("1", JobState.ENDED, outcome), NOW + 1)
    assert room.snapshot(NOW + 1).agent_lost is lost
    assert room.finished


def test_call_ends_with_the_list_after_its_job_ended_and_later_without() -> None:
    for finished, seconds in ((True, 0.0), (False, MISSING_ROOM_SECONDS)):
        room = with_agent()
        if finished:
            room.reported(job("1", JobState.ENDED, CallOutcome.CALLER_LEFT), NOW + 1)
        room.not_listed(NOW + 2)
        assert room.snapshot(NOW + 2 + seconds - 0.5).exists is not (finished and seconds < 0.5)
        assert not room.snapshot(NOW + 2 + seconds).exists


def test_room_that_is_listed_again_was_never_gone() -> None:
    room = with_agent()
    room.participants([CALLER, agent("1")], NOW + 1)
    room.not_listed(NOW + 2)
    room.listed(replace(LISTED, sid="RM_2"), NOW, NOW)
    assert room.snapshot(NOW + 60).exists
    assert room.changed, "who has reconnected must be read"


@pytest.mark.parametrize("changes", [{"participants": 0}, {"publishers": 2}, {"sid": "RM_2"}])
def test_room_is_read_when_its_counts_change(changes: dict[str, object]) -> None:
    room = with_agent()
    room.listed(LISTED, NOW, NOW)
    room.participants([CALLER], NOW + 1)
    room.listed(LISTED, NOW, NOW)
    assert not room.changed
    room.listed(replace(LISTED, **changes), NOW, NOW)  # type: ignore[arg-type]
    assert room.changed
    assert room.read_due(JOINED, heard=True) <= NOW + 1


def test_list_tells_that_the_caller_has_come() -> None:
    room = CallRoom(WAITING.identity, WAITING.agent_name)
    room.listed(replace(LISTED, participants=0), NOW, NOW)
    assert room.caller_seen_at is None
    room.listed(LISTED, NOW + 1, NOW + 1)
    assert room.snapshot(NOW + 1).caller_present
    room.participants([], NOW + 2)
    assert not room.snapshot(NOW + 2).caller_present, "a read knows better"


def test_outcome_in_the_record_counts_once_the_agent_has_left() -> None:
    room = with_agent()
    record = record_of(JOINED).model_copy(update={"outcome": CallOutcome.MAX_LENGTH})
    room.listed(replace(LISTED, metadata=render(record)), NOW, NOW)
    assert room.snapshot(NOW).outcome == ""
    room.participants([CALLER], NOW + 1)
    assert room.snapshot(NOW + 1).outcome is CallOutcome.MAX_LENGTH


def test_only_agents_with_known_joins_are_surplus() -> None:
    room = with_agent("2")
    room.participants([CALLER, agent("2", joined_at=9), agent("1", joined_at=3)], NOW + 1)
    assert room.snapshot(NOW + 1).surplus_agents == (agent_identity("2"),)


def test_every_participant_of_a_foreign_room_that_is_no_agent_is_the_caller() -> None:
    room = CallRoom("", WAITING.agent_name)
    room.participants([agent("1")], NOW)
    assert not room.caller_present
    room.participants([agent("1"), Participant("sip_+963", False, "", 1)], NOW)
    assert room.caller_present


def test_last_time_of_a_caller_who_left_is_the_read_that_missed_them() -> None:
    room = room_of()
    room.participants([CALLER], NOW + 1)
    room.participants([], NOW + 9)
    room.participants([], NOW + 20)
    assert (room.caller_present, room.caller_seen_at) == (False, NOW + 9)


def test_late_read_does_not_hide_a_caller_whom_a_newer_list_counts() -> None:
    room = CallRoom(WAITING.identity, WAITING.agent_name)
    room.listed(LISTED, NOW + 1, NOW + 2)
    room.participants([], NOW)
    assert room.snapshot(NOW + 3).caller_present
    assert not room.is_routine(WAITING), "who is there must be read"
    room.participants([], NOW + 3)
    assert not room.snapshot(NOW + 3).caller_present


def test_late_read_does_not_lose_an_agent_that_has_joined_meanwhile() -> None:
    room = room_of()
    room.reported(job("1", JobState.JOINED), NOW + 2)
    room.participants([CALLER], NOW + 1)
    assert room.snapshot(NOW + 3).agent_present
    assert not room.is_routine(JOINED), "who is there must be read"
    room.participants([CALLER], NOW + 3)
    assert not room.snapshot(NOW + 3).agent_present


def test_list_that_counts_nobody_proves_an_absence_and_any_other_does_not() -> None:
    room = CallRoom(WAITING.identity, WAITING.agent_name)
    room.participants([CALLER], NOW)
    room.participants([], NOW + 1)
    room.listed(LISTED, NOW + 20, NOW + 20)
    assert room.snapshot(NOW + 21).checked_at == NOW + 1
    room.listed(replace(LISTED, participants=0), NOW + 21, NOW + 21)
    assert room.snapshot(NOW + 22).checked_at == NOW + 21 - LIST_LAG_SECONDS
    room.participants([], NOW + 19)
    room.listed(replace(LISTED, participants=0), NOW + 22, NOW + 22)
    assert room.snapshot(NOW + 22).checked_at == NOW + 19, "the read is newer than what the list counts"


@pytest.mark.parametrize(
    ("call", "heard", "seconds"),
    [
        (DISPATCHED, False, DISPATCHED_READ_SECONDS),
        (DISPATCHED, True, HEARD_READ_SECONDS),
        (WAITING, True, ROUTINE_READ_SECONDS),
        (JOINED, True, ROUTINE_READ_SECONDS),
    ],
    ids=["dispatched", "dispatched, reports arrive", "waiting", "joined"],
)
def test_participants_are_read_as_often_as_the_state_asks(call: Call, heard: bool, seconds: float) -> None:
    room = room_of()
    room.participants([CALLER, agent("1")], NOW + 1)
    assert room.read_due(call, heard=heard) == NOW + 1 + seconds


@pytest.mark.parametrize(
    ("call", "before", "found"),
    [(WAITING, [], []), (WAITING, [CALLER], []), (JOINED, [], [agent("1")]), (JOINED, [CALLER], [CALLER])],
    ids=["caller expected", "caller gone", "joined before the caller", "agent gone"],
)
def test_room_is_read_before_its_turn_while_somebody_is_absent(
    call: Call, before: list[Participant], found: list[Participant]
) -> None:
    room = CallRoom(call.identity, call.agent_name)
    for present, at in ((before, NOW), (found, NOW + 1)):
        room.participants(present, at)
    expected = call is WAITING or bool(before)
    assert room.is_routine(call) is not expected
    assert room.read_due(call, heard=True) == NOW + 1 + (ABSENT_READ_SECONDS if expected else ROUTINE_READ_SECONDS)
