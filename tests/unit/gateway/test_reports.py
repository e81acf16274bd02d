"""Workers' reports: a lost worker's calls get another agent at once, and rooms nobody asked for become calls."""

import asyncio
import json
import logging
from dataclasses import replace
from typing import ClassVar

import pytest

from agentspec.wire import CallOutcome, JobReport, JobState, WorkerCalls, agent_identity, read_dispatch_metadata
from gateway.calls import effects
from gateway.calls.call import CallReason, CallState, Cause
from gateway.calls.effects import held_name
from gateway.calls.room import CallRoom
from gateway.livekit.server import WAITING_AGENT_NAME, Dispatch, LiveKitUnreachable, Participant
from tests.unit.gateway.fakes import World
from tests.unit.gateway.scenes import JOINED, adopt, becomes_true, current, open_call, reaches

pytestmark = pytest.mark.usefixtures("virtual_clock")

AGENT = "agents/ornina"


def report(
    world: World, room: str, state: JobState, *, job_id: str = "1", outcome: str = "", lost: bool = False
) -> None:
    """Let the controller pass on a report of the worker `pod-1`."""
    jobs = [JobReport(job_id=job_id, room=room, state=state, outcome=outcome)]
    world.gateway.reports.receive(WorkerCalls(agent=AGENT, worker="pod-1", jobs=jobs, lost=lost))


def connect_agent(world: World, room: str, job_id: str = "1") -> None:
    """Let the agent of a job join a room."""
    identity = agent_identity(job_id)
    world.livekit.rooms_by_name[room].participants.append(Participant(identity, True, "ornina-agent", 5))


class ReadReport(JobReport):
    """A job's report that counts how often anything of it is read."""

    reads: ClassVar[int] = 0

    def __getattribute__(self, name: str) -> object:
        if name in JobReport.model_fields:
            ReadReport.reads += 1
        return super().__getattribute__(name)


async def test_adopted_call_costs_no_look_at_the_jobs_of_other_rooms(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads_of_adoption(workers: int) -> int:
        world.gateway.reports.begin()
        for number in range(workers):
            jobs: list[JobReport] = [
                ReadReport(job_id=f"{number}-{slot}", room=f"room-{number}-{slot}") for slot in range(3)
            ]
            world.gateway.reports.receive(WorkerCalls(agent=AGENT, worker=f"pod-{number}", jobs=jobs))
        monkeypatch.setattr(ReadReport, "reads", 0)
        room = CallRoom("caller", "ornina-agent")
        world.gateway.reports.apply_to(room, AGENT, "room-0-1", is_repeat=False)
        assert list(room.agents) == [agent_identity("0-1")]
        return ReadReport.reads

    assert reads_of_adoption(1) == reads_of_adoption(500) > 0


async def test_adopted_call_has_the_jobs_that_run_now(world: World) -> None:
    def agents_in(room_name: str, agent_key: str = AGENT) -> list[str]:
        room = CallRoom("caller", "ornina-agent")
        world.gateway.reports.apply_to(room, agent_key, room_name, is_repeat=False)
        return list(room.agents)

    report(world, "first", JobState.JOINED)
    assert agents_in("first") == [agent_identity("1")]
    assert agents_in("first", "agents/other") == []
    report(world, "second", JobState.JOINED, job_id="2")
    assert (agents_in("first"), agents_in("second")) == ([], [agent_identity("2")])
    report(world, "second", JobState.ENDED, job_id="2")
    assert agents_in("second") == []
    report(world, "third", JobState.JOINED, job_id="3")
    report(world, "third", JobState.JOINED, job_id="3", lost=True)
    assert agents_in("third") == []


async def test_caller_gets_another_agent_at_once_when_the_worker_is_lost(world: World) -> None:
    world.livekit.slots, world.livekit.joins = 2, False
    call = await open_call(world)
    connect_agent(world, call.room)
    report(world, call.room, JobState.JOINED)
    await reaches(world, call, CallState.JOINED)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    report(world, call.room, JobState.JOINED, lost=True)
    assert current(world, call).causes == (Cause.FIRST, Cause.AGENT_LOST), "without any wait"
    await becomes_true(lambda: [name for _, name in world.livekit.launches].count("ornina-agent") == 2)
    assert agent_identity("1") not in world.livekit.agents_in(call.room), "the ghost is removed first"
    connect_agent(world, call.room, "2")
    report(world, call.room, JobState.JOINED, job_id="2")
    await reaches(world, call, CallState.JOINED)


async def test_job_that_is_lost_before_it_joined_is_dispatched_again_at_once(world: World) -> None:
    world.livekit.joins = False
    call = await open_call(world)
    report(world, call.room, JobState.STARTING)
    report(world, call.room, JobState.STARTING, lost=True)
    assert current(world, call).causes == (Cause.FIRST, Cause.JOB_DIED)


async def test_call_ends_with_the_outcome_that_the_worker_reports(world: World) -> None:
    call = await open_call(world)
    (identity,) = world.livekit.agents_in(call.room)
    job_id = identity.removeprefix("agent-")
    report(world, call.room, JobState.JOINED, job_id=job_id)
    await reaches(world, call, CallState.JOINED)
    world.livekit.disconnect(call.room, identity)
    report(world, call.room, JobState.ENDED, job_id=job_id, outcome=CallOutcome.CALLER_IDLE)
    ended = await reaches(world, call, CallState.ENDED)
    assert ended.reason is CallReason.CALLER_IDLE


async def test_joined_agent_is_known_without_a_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.livekit.joins = False
    call = await open_call(world)

    async def participants(room: str) -> list[Participant]:
        raise LiveKitUnreachable("no read is answered")

    monkeypatch.setattr(world.livekit, "participants", participants)
    report(world, call.room, JobState.JOINED)
    assert current(world, call).state is CallState.JOINED


async def test_failed_dispatch_is_no_declined_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.supply.free = 0
    call = await open_call(world)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    create, failures = world.livekit.create_dispatch, [LiveKitUnreachable("no answer") for _ in range(12)]

    async def create_dispatch(room: str, agent_name: str, metadata: str) -> None:
        if failures:
            raise failures.pop()
        await create(room, agent_name, metadata)

    monkeypatch.setattr(world.livekit, "create_dispatch", create_dispatch)
    world.supply.free = 1
    joined = await reaches(world, call, CallState.JOINED)
    assert (failures, joined.times_declined) == ([], 0)


async def test_call_survives_a_restart_of_livekit(world: World) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    room = world.livekit.rooms_by_name.pop(call.room)
    await asyncio.sleep(3)
    room.metadata, room.dispatches = "", []
    world.livekit.rooms_by_name[call.room] = room
    await becomes_true(lambda: call.id in room.metadata)
    assert current(world, call).state is CallState.JOINED
    assert len(world.livekit.launches) == 1, "no other agent is dispatched"


async def test_waiting_call_is_held_again_after_a_restart_of_livekit(world: World) -> None:
    world.supply.free = 0
    call = await open_call(world)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    room = world.livekit.rooms_by_name[call.room]
    room.metadata, room.dispatches = "", []
    await becomes_true(lambda: [one.agent_name for one in room.dispatches] == [WAITING_AGENT_NAME])
    assert room.dispatches[0].metadata == call.dispatch_metadata


async def test_foreign_room_waits_for_a_slot_and_is_answered(world: World) -> None:
    world.supply.free, world.livekit.slots = 0, 0
    await world.livekit.create_room("sip-call", "theirs", "ornina-agent", json.dumps({"trunk": "t1"}))
    world.livekit.connect_caller("sip-call", "sip_+963")
    await adopt(world)
    (call,) = world.gateway.ledger
    assert (call.foreign, call.identity, call.room) == (True, "", "sip-call")
    room = world.livekit.rooms_by_name["sip-call"]
    await becomes_true(lambda: [held_name(one.agent_name) for one in room.dispatches] == ["ornina-agent"])
    assert current(world, call).state is CallState.WAITING
    world.supply.free = world.livekit.slots = 1
    await reaches(world, call, CallState.JOINED)
    assert room.metadata == "theirs", "the room's metadata is another program's"


@pytest.mark.parametrize(("seats", "avatar"), [(0, False), (1, True), (None, True)], ids=["taken", "free", "no limit"])
async def test_foreign_call_that_waits_has_a_seat_like_any_other(world: World, seats: int | None, avatar: bool) -> None:
    world.supply.free, world.livekit.slots, world.supply.seats = 0, 0, seats
    await world.livekit.create_room("sip-call", "theirs", "ornina-agent", json.dumps({"trunk": "t1"}))
    world.livekit.connect_caller("sip-call", "sip_+963")
    await adopt(world)
    (call,) = world.gateway.ledger
    room = world.livekit.rooms_by_name["sip-call"]
    await becomes_true(lambda: [held_name(one.agent_name) for one in room.dispatches] == ["ornina-agent"])
    world.supply.free = world.livekit.slots = 1
    await reaches(world, call, CallState.JOINED)
    (found,) = room.dispatches
    metadata, _ = read_dispatch_metadata(found.metadata)
    assert (metadata.avatar, metadata.metadata) == (avatar, {"trunk": "t1"})


async def test_foreign_call_is_adopted_again_while_it_waits(world: World) -> None:
    world.supply.free, world.livekit.slots = 0, 0
    await world.livekit.create_room("sip-call", "", f"{WAITING_AGENT_NAME}:ornina-agent", "")
    world.livekit.connect_caller("sip-call", "sip_+963")
    await adopt(world)
    (call,) = world.gateway.ledger
    assert (call.agent_name, call.state) == ("ornina-agent", CallState.WAITING)


async def test_foreign_room_stays_when_its_call_fails(world: World) -> None:
    world.livekit.slots = 0
    await world.livekit.create_room("sip-call", "", "ornina-agent", "")
    world.livekit.connect_caller("sip-call", "sip_+963")
    await adopt(world)
    (call,) = world.gateway.ledger
    await reaches(world, call, CallState.FAILED)
    room = world.livekit.rooms_by_name["sip-call"]
    await becomes_true(lambda: room.dispatches == [])
    await adopt(world)
    assert "sip-call" in world.livekit.rooms_by_name
    assert list(world.gateway.ledger) == [], "and it is not adopted again"


async def test_foreign_room_that_is_closed_needs_no_withdrawal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dispatches(room: str) -> list[Dispatch]:
        raise LiveKitUnreachable("LiveKit's answer for a room that does not exist")

    monkeypatch.setattr(world.livekit, "dispatches", dispatches)
    await effects.close(world.livekit, replace(JOINED, foreign=True))


async def test_read_during_a_rescue_does_not_stop_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.livekit.joins = False
    call = await open_call(world)
    connect_agent(world, call.room)
    report(world, call.room, JobState.JOINED)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    remove = world.livekit.remove_participant

    async def remove_participant(room: str, identity: str) -> None:
        await remove(room, identity)
        known = world.gateway.watch.room(call.id)
        assert known is not None
        known.participants(world.livekit.rooms_by_name[room].participants, current(world, call).state_since)

    monkeypatch.setattr(world.livekit, "remove_participant", remove_participant)
    report(world, call.room, JobState.JOINED, lost=True)
    await becomes_true(lambda: [name for _, name in world.livekit.launches].count("ornina-agent") == 2)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
