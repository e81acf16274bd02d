"""Calls from request to end, with LiveKit in memory and in virtual time."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from agentspec.wire import CallOutcome, DispatchMetadata, read_dispatch_metadata
from gateway.agents import Agent, InvalidAgent
from gateway.calls import dispatcher, effects
from gateway.calls.call import Call, CallReason, CallState, Cause
from gateway.calls.ledger import CALLER_EXPECTED_SECONDS
from gateway.calls.retries import FIRST_SECONDS
from gateway.calls.room import ROUTINE_READ_SECONDS
from gateway.calls.step import (
    ACCEPT_TIMEOUT_SECONDS,
    AGENT_GRACE_SECONDS,
    MAX_DECLINES,
    WAITING_CALLER_GRACE_SECONDS,
    Admission,
    Step,
)
from gateway.calls.step import (
    step as decide,
)
from gateway.livekit.connections import Connection, SecretError
from gateway.livekit.server import WAITING_AGENT_NAME, Dispatch, LiveKitRefused, LiveKitUnreachable
from tests.unit.gateway.fakes import World, example_agent
from tests.unit.gateway.scenes import becomes_true, current, open_call, reaches, report_outcome

pytestmark = pytest.mark.usefixtures("virtual_clock")

INVALID = InvalidAgent("agents", "ornina", "spec.colour: unknown field")
LABELS = {"agent_namespace": "agents", "agent": "ornina"}


def dispatched_names(world: World, call: Call) -> list[str]:
    """Agent names of the dispatches in a call's room."""
    return [dispatch.agent_name for dispatch in world.livekit.rooms_by_name[call.room].dispatches]


def agent_dispatches(world: World) -> int:
    """Number of dispatches to the agent so far."""
    return [name for _, name in world.livekit.launches].count("ornina-agent")


def metadata_of(world: World, call: Call) -> DispatchMetadata:
    """Metadata of the only dispatch in a call's room."""
    (dispatch,) = world.livekit.rooms_by_name[call.room].dispatches
    metadata, _ = read_dispatch_metadata(dispatch.metadata)
    return metadata


def lose_agent(world: World, call: Call) -> None:
    """Disconnect the only agent in a call's room."""
    (identity,) = world.livekit.agents_in(call.room)
    world.livekit.disconnect(call.room, identity)


async def test_waiting_calls_are_dispatched_in_order_as_slots_become_free(world: World) -> None:
    world.supply.free = 0
    first = await open_call(world)
    await asyncio.sleep(1)
    second = await open_call(world)
    world.supply.free = 1
    world.gateway.dispatcher.wake_waiting_calls()
    await reaches(world, first, CallState.JOINED)
    assert current(world, second).state is CallState.WAITING, "the first call has the only slot"
    assert dispatched_names(world, first) == ["ornina-agent"]
    assert dispatched_names(world, second) == [WAITING_AGENT_NAME]
    world.supply.free = 0
    await world.gateway.dispatcher.hang_up(first)
    world.supply.free = 1
    await reaches(world, second, CallState.JOINED)
    assert agent_dispatches(world) == 2


async def test_calls_beyond_the_seats_are_dispatched_without_avatar(world: World) -> None:
    world.supply.free = world.livekit.slots = 4
    world.supply.seats = 2
    calls = [await open_call(world) for _ in range(3)]
    assert [metadata_of(world, call).avatar for call in calls] == [True, True, False]
    assert all(metadata_of(world, call).call_id == call.id for call in calls)
    value = world.gateway.metrics.registry.get_sample_value
    assert value("avatar_agent_gateway_calls_without_seat_total", LABELS) == 1


async def test_seat_is_assigned_at_dispatch_not_at_request(world: World) -> None:
    world.supply.free, world.supply.seats = 0, 0
    call = await open_call(world)
    world.supply.free, world.supply.seats = 1, 1
    await reaches(world, call, CallState.JOINED)
    assert metadata_of(world, call).avatar
    assert current(world, call).avatar


async def test_repeated_dispatch_gets_a_seat_only_if_one_is_free(world: World) -> None:
    world.supply.seats = 1
    call = await open_call(world)
    assert metadata_of(world, call).avatar
    await reaches(world, call, CallState.JOINED)
    world.supply.seats = 0
    lose_agent(world, call)
    await becomes_true(lambda: Cause.AGENT_LOST in current(world, call).causes)
    await reaches(world, call, CallState.JOINED)
    assert not metadata_of(world, call).avatar


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ([example_agent(suspend=True)], CallReason.SUSPENDED),
        ([replace(example_agent(), name_taken=True)], CallReason.NAME_TAKEN),
        ([], CallReason.AGENT_NOT_FOUND),
    ],
    ids=["suspended", "name taken", "deleted"],
)
async def test_waiting_call_fails_when_its_agent_takes_no_calls(
    world: World, listed: list[Agent | InvalidAgent], reason: CallReason
) -> None:
    world.supply.free = 0
    call = await open_call(world)
    world.agents.listed = listed
    assert (await reaches(world, call, CallState.FAILED)).reason is reason


async def test_waiting_call_continues_when_the_spec_becomes_invalid(world: World) -> None:
    world.supply.free = 0
    call = await open_call(world)
    world.agents.listed = [INVALID]
    await asyncio.sleep(60)
    assert current(world, call).state is CallState.WAITING


@pytest.mark.parametrize(
    ("free", "admission"),
    [(1, Admission.FREE_SLOT), (None, Admission.SLOTS_UNKNOWN)],
    ids=["slots known", "slots unknown"],
)
async def test_no_call_is_dispatched_to_a_name_that_is_not_checked(
    world: World, free: int | None, admission: Admission
) -> None:
    world.supply.free = free
    key = example_agent().key
    world.agents.listed = [replace(example_agent(), name_checked=False)]
    assert world.gateway.dispatcher.admission(key) is Admission.WAIT
    call = await open_call(world)
    await asyncio.sleep(60)
    assert (current(world, call).state, agent_dispatches(world)) == (CallState.WAITING, 0)
    world.agents.listed = [example_agent()]
    assert world.gateway.dispatcher.admission(key, call) is admission
    await reaches(world, call, CallState.JOINED)


async def test_agent_with_invalid_spec_keeps_its_checked_name(world: World) -> None:
    world.agents.listed = [INVALID]
    assert world.gateway.dispatcher.admission(INVALID.key) is Admission.FREE_SLOT


async def test_outcome_of_an_agent_that_never_appeared_fails_the_call(world: World) -> None:
    world.livekit.joins = False
    call = await open_call(world)
    report_outcome(world, call, CallOutcome.NO_AVATAR_SEAT)
    failed = await reaches(world, call, CallState.FAILED)
    assert (failed.reason, failed.causes) == (CallReason.NO_AVATAR_SEAT, (Cause.FIRST,))


async def test_no_agent_is_dispatched_before_the_caller_connects(world: World) -> None:
    world.supply.free = 0
    call = await open_call(world, caller=False)
    world.supply.free = 1
    world.gateway.dispatcher.wake_waiting_calls()
    await asyncio.sleep(30)
    assert (current(world, call).state, agent_dispatches(world)) == (CallState.WAITING, 0)
    world.livekit.connect_caller(call.room, call.identity)
    await reaches(world, call, CallState.JOINED)


async def test_absent_caller_keeps_no_free_slot_from_the_next(world: World) -> None:
    world.supply.free = 0
    first, second = await open_call(world, caller=False), await open_call(world)
    await asyncio.sleep(CALLER_EXPECTED_SECONDS + 0.1)
    world.supply.free = 1
    world.gateway.dispatcher.wake_waiting_calls()
    assert current(world, second).state is CallState.DISPATCHED, "at once"
    assert current(world, first).state is CallState.WAITING
    await reaches(world, second, CallState.JOINED)


async def test_waiting_call_ends_when_its_caller_leaves(world: World) -> None:
    world.supply.free = 0
    call = await open_call(world)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    world.livekit.disconnect(call.room, call.identity)
    await asyncio.sleep(WAITING_CALLER_GRACE_SECONDS / 2)
    assert current(world, call).state is CallState.WAITING
    ended = await reaches(world, call, CallState.ENDED)
    assert ended.reason is CallReason.CALLER_LEFT
    await becomes_true(lambda: call.room not in world.livekit.rooms_by_name)


async def test_dispatch_with_unknown_slots_is_repeated_until_accepted(world: World) -> None:
    world.supply.free, world.livekit.slots = None, 0
    call = await open_call(world)
    await becomes_true(lambda: current(world, call).causes.count(Cause.NOT_TAKEN) >= 2)
    world.livekit.slots = 1
    joined = await reaches(world, call, CallState.JOINED)
    assert joined.causes[0] is Cause.FIRST
    assert dispatched_names(world, call) == ["ornina-agent"], "every earlier dispatch was withdrawn"
    assert len(world.livekit.agents_in(call.room)) == 1


async def test_call_fails_when_workers_decline_every_dispatch(world: World) -> None:
    world.livekit.slots = 0
    call = await open_call(world)
    failed = await reaches(world, call, CallState.FAILED)
    assert failed.reason is CallReason.NOT_ANSWERED
    assert agent_dispatches(world) == MAX_DECLINES
    await becomes_true(lambda: call.room not in world.livekit.rooms_by_name)


async def test_call_is_dispatched_again_when_a_worker_accepts_and_does_not_join(world: World) -> None:
    world.livekit.joins = False
    call = await open_call(world)
    lost = world.livekit.rooms_by_name[call.room].dispatches[0].id
    await becomes_true(lambda: Cause.JOB_DIED in current(world, call).causes)
    await becomes_true(lambda: lost not in [found.id for found in world.livekit.rooms_by_name[call.room].dispatches])
    world.livekit.join(call.room)
    await reaches(world, call, CallState.JOINED)


async def test_lost_agent_is_replaced_once_and_the_join_counted_once(world: World) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    lose_agent(world, call)
    await becomes_true(lambda: Cause.AGENT_LOST in current(world, call).causes)
    await reaches(world, call, CallState.JOINED)
    value = world.gateway.metrics.registry.get_sample_value
    assert value("avatar_agent_gateway_join_duration_seconds_count", LABELS) == 1
    lose_agent(world, call)
    assert (await reaches(world, call, CallState.FAILED)).reason is CallReason.AGENT_LOST
    ending = {"outcome": "failed", "reason": "AgentLost", "joined": "true"}
    assert value("avatar_agent_gateway_calls_ended_total", LABELS | ending) == 1
    assert value("avatar_agent_gateway_join_duration_seconds_count", LABELS) == 1


async def test_second_agent_in_a_room_is_removed(world: World) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    (first,) = world.livekit.agents_in(call.room)
    world.livekit.join(call.room)
    await becomes_true(lambda: world.livekit.agents_in(call.room) == [first])
    assert current(world, call).state is CallState.JOINED


async def test_joined_call_ends_when_its_room_is_closed(world: World) -> None:
    call = await open_call(world)
    await becomes_true(lambda: current(world, call).state is CallState.JOINED and current(world, call).caller_seen_at)
    await world.livekit.delete_room(call.room)
    assert (await reaches(world, call, CallState.ENDED)).reason is CallReason.FINISHED


async def test_joined_call_continues_without_livekit_and_without_secrets(world: World) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    world.livekit.error = LiveKitUnreachable("unreachable")
    await asyncio.sleep(600)
    world.livekit.error, world.connections.error = None, SecretError("deleted")
    await asyncio.sleep(600)
    assert current(world, call).state is CallState.JOINED
    world.connections.error = None
    await asyncio.sleep(60)
    assert current(world, call).state is CallState.JOINED
    assert len(world.livekit.agents_in(call.room)) == 1
    assert agent_dispatches(world) == 1


async def test_closing_a_room_is_retried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    attempts: list[str] = []
    close = world.livekit.delete_room

    async def delete_room(room: str) -> None:
        attempts.append(room)
        if len(attempts) == 1:
            raise LiveKitUnreachable("unreachable")
        await close(room)

    monkeypatch.setattr(world.livekit, "delete_room", delete_room)
    world.livekit.disconnect(call.room, call.identity)
    await reaches(world, call, CallState.ENDED)
    await becomes_true(lambda: call.room not in world.livekit.rooms_by_name)
    assert attempts == [call.room] * 2


async def test_unexpected_error_in_one_call_is_logged_and_all_calls_continue(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.supply.free = world.livekit.slots = 2
    step, failures = decide, [ValueError("unexpected")]
    call, other = await open_call(world), await open_call(world)

    def failing_once(known: Call, *arguments: Any) -> Step:
        if known.id == call.id and failures:
            raise failures.pop()
        return step(known, *arguments)

    monkeypatch.setattr(dispatcher, "step", failing_once)
    await reaches(world, other, CallState.JOINED)
    await reaches(world, call, CallState.JOINED)
    assert failures == [], "the error was raised"
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (record.message, record.__dict__["call_id"]) == ("call step failed", call.id)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_each_state_of_a_call_is_logged_with_its_fields(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.calls.dispatcher")
    world.supply.free = 0
    call = await open_call(world)
    world.supply.free = 1
    await reaches(world, call, CallState.JOINED)
    await world.gateway.dispatcher.hang_up(call)
    records = [record for record in caplog.records if record.name == "gateway.calls.dispatcher"]
    messages = ["call is waiting for a free slot", "call dispatched", "agent joined call", "call ended"]
    assert [record.message for record in records] == messages
    fields = {"call_id": call.id, "room": call.room, "agent": "agents/ornina", "agent_name": "ornina-agent"}
    fields |= {"key_id": "publishable/ios-2f7c9a1e", "address": "203.0.113.7"}
    assert all(fields.items() <= record.__dict__.items() for record in records)
    assert [record.__dict__["reason"] for record in records] == ["", "", "", "HungUp"]


async def test_rooms_and_agents_stay_when_the_gateway_stops(world: World) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    await world.gateway.dispatcher.stop()
    assert len(world.livekit.agents_in(call.room)) == 1


async def test_outcome_that_the_worker_reports_ends_the_call(world: World) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    report_outcome(world, call, CallOutcome.PROVIDER_FAILED)
    lose_agent(world, call)
    failed = await reaches(world, call, CallState.FAILED)
    assert (failed.reason, failed.causes) == (CallReason.PROVIDER_FAILED, (Cause.FIRST,)), "no other agent is sent"
    await becomes_true(lambda: call.room not in world.livekit.rooms_by_name)


async def test_caller_has_a_new_agent_soon_after_a_loss(world: World) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    lose_agent(world, call)
    lost_at = asyncio.get_running_loop().time()
    await becomes_true(lambda: world.livekit.agents_in(call.room))
    seconds = asyncio.get_running_loop().time() - lost_at
    assert AGENT_GRACE_SECONDS <= seconds <= AGENT_GRACE_SECONDS + ROUTINE_READ_SECONDS + 1


async def test_call_waits_until_a_new_owner_searches_for_the_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a fence is noticed some time later, and a call that is adopted before must overtake none."""
    monkeypatch.setattr(world.gateway.members, "is_beginning", lambda: True)
    call = await open_call(world)
    await asyncio.sleep(1)
    assert current(world, call).state is CallState.WAITING
    monkeypatch.setattr(world.gateway.members, "is_beginning", lambda: False)
    await reaches(world, call, CallState.JOINED)


async def test_dispatch_that_no_worker_accepts_is_withdrawn_in_time(world: World) -> None:
    world.livekit.slots = 0
    call = await open_call(world)
    opened_at = asyncio.get_running_loop().time()
    await reaches(world, call, CallState.WAITING)
    seconds = asyncio.get_running_loop().time() - opened_at
    assert ACCEPT_TIMEOUT_SECONDS <= seconds <= ACCEPT_TIMEOUT_SECONDS + 0.5
    await becomes_true(lambda: dispatched_names(world, call) == [WAITING_AGENT_NAME])


async def test_closed_room_ends_its_call_though_livekit_answers_no_question_about_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway was frozen, and another one has ended the call: it must not take a slot from the line for ever."""
    world.livekit.slots = 0
    ask = world.livekit.dispatches

    async def dispatches(room: str) -> list[Dispatch]:
        if room not in world.livekit.rooms_by_name:
            raise LiveKitUnreachable("503 unavailable: no response from servers")
        return await ask(room)

    monkeypatch.setattr(world.livekit, "dispatches", dispatches)
    call = await open_call(world)
    del world.livekit.rooms_by_name[call.room]
    await reaches(world, call, CallState.ENDED)
    assert world.gateway.ledger.in_flight(call.agent.key, 0) == 0


def refuse(world: World, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the credentials of one agent fail. Another agent's list the rooms of the server."""
    world.agents.listed = [agent, example_agent("other")]
    open_for = world.connections.open

    async def connect(asking: Agent) -> Connection:
        if asking.key == agent.key:
            raise SecretError("deleted")
        return await open_for(asking)

    monkeypatch.setattr(world.connections, "open", connect)


async def test_call_without_credentials_leaves_its_slot_and_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.livekit.slots = 0
    call = await open_call(world)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    refuse(world, call.agent, monkeypatch)
    await becomes_true(lambda: current(world, call).state is CallState.WAITING)
    seconds = asyncio.get_running_loop().time()
    assert seconds < ACCEPT_TIMEOUT_SECONDS + FIRST_SECONDS + 2
    assert world.gateway.ledger.in_flight(call.agent.key, 0) == 0
    assert (await reaches(world, call, CallState.FAILED)).reason is CallReason.NO_FREE_SLOT


async def test_call_is_hung_up_though_livekit_answers_no_question_about_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.livekit.slots = 0
    asked: list[str] = []

    async def dispatches(room: str) -> list[Dispatch]:
        asked.append(room)
        raise LiveKitUnreachable("503 unavailable")

    call = await open_call(world)
    monkeypatch.setattr(world.livekit, "dispatches", dispatches)
    await becomes_true(lambda: asked)
    async with asyncio.timeout(2 * dispatcher.RETRY_SECONDS):
        await asyncio.gather(*(world.gateway.dispatcher.hang_up(call) for _ in range(2)))
    assert current(world, call).reason is CallReason.HUNG_UP
    assert len(asked) == 1, "hanging up goes first"


async def test_call_continues_when_it_could_not_be_hung_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)

    async def delete_room(room: str) -> None:
        raise LiveKitUnreachable("503 unavailable")

    close = world.livekit.delete_room
    monkeypatch.setattr(world.livekit, "delete_room", delete_room)
    with pytest.raises(LiveKitUnreachable):
        await world.gateway.dispatcher.hang_up(call)
    monkeypatch.setattr(world.livekit, "delete_room", close)
    world.livekit.disconnect(call.room, call.identity)
    assert (await reaches(world, call, CallState.ENDED)).reason is CallReason.CALLER_LEFT


@pytest.mark.parametrize("repair", ["remove_participant", "set_metadata"])
async def test_room_that_cannot_be_repaired_keeps_no_call_from_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch, repair: str
) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    attempts: list[float] = []

    async def fail(room: str, _: str) -> None:
        attempts.append(asyncio.get_running_loop().time())
        raise LiveKitRefused("403")

    monkeypatch.setattr(world.livekit, repair, fail)
    if repair == "remove_participant":
        world.livekit.join(call.room)
    else:
        world.livekit.rooms_by_name[call.room].metadata = ""
    await becomes_true(lambda: attempts)
    world.livekit.disconnect(call.room, call.identity)
    assert (await reaches(world, call, CallState.ENDED)).reason is CallReason.CALLER_LEFT
    assert attempts[-1] - attempts[0] > FIRST_SECONDS, "it is tried again"


@pytest.mark.parametrize("held", [False, True], ids=["dispatch", "hold"])
async def test_metadata_stays_in_the_room_during_a_redispatch(
    world: World, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    call = await open_call(world)
    await world.gateway.dispatcher.stop()
    room = world.livekit.rooms_by_name[call.room]
    snapshots: list[set[str]] = []
    delete, create = world.livekit.delete_dispatch, world.livekit.create_dispatch

    async def delete_dispatch(name: str, dispatch_id: str) -> None:
        await delete(name, dispatch_id)
        snapshots.append({found.metadata for found in room.dispatches})

    async def create_dispatch(name: str, dispatched_to: str, metadata: str) -> None:
        duplicates = [found for found in room.dispatches if found.agent_name == dispatched_to]
        assert not duplicates, "an agent never has two dispatches"
        await create(name, dispatched_to, metadata)
        snapshots.append({found.metadata for found in room.dispatches})

    monkeypatch.setattr(world.livekit, "delete_dispatch", delete_dispatch)
    monkeypatch.setattr(world.livekit, "create_dispatch", create_dispatch)
    await (effects.hold(world.livekit, call) if held else effects.dispatch(world.livekit, call, ()))
    assert snapshots and all(found == {call.dispatch_metadata} for found in snapshots)
    assert dispatched_names(world, call) == [WAITING_AGENT_NAME if held else "ornina-agent"]
