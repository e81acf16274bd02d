"""Calls carried from request to end, with LiveKit played in memory and the waits made short."""

import asyncio
from dataclasses import replace

import pytest

from agentspec.wire import CallOutcome, DispatchMetadata, read_dispatch_metadata, with_outcome
from gateway import calls, dispatcher
from gateway.agents import Agent, InvalidAgent
from gateway.callrequest import parse_request
from gateway.calls import Call, CallReason, CallState, Cause
from gateway.connections import SecretError
from gateway.livekit import WAITING_AGENT_NAME, LiveKitUnreachable
from tests.unit.gateway.fakes import World, agent
from tests.waiting import soon

REQUEST = parse_request(b'{"agent": "ornina", "name": "Layla"}')


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", dict.fromkeys(CallState, 0.005))
    monkeypatch.setattr(calls, "ACCEPT_TIMEOUT_SECONDS", 0.03)
    monkeypatch.setattr(calls, "RETRY_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(calls, "AGENT_GRACE_SECONDS", 0.03)


async def opened(there: World, *, caller: bool = True) -> Call:
    """A new call, its caller connected."""
    call = (await there.gateway.opener.open(agent(), REQUEST, "public", None)).call
    if caller:
        there.livekit.enter(call.room, call.identity)
    return call


def now(there: World, call: Call) -> Call:
    found = there.gateway.ledger.get(call.id)
    assert found is not None
    return found


async def reaches(there: World, call: Call, state: CallState) -> Call:
    await soon(lambda: now(there, call).state is state)
    return now(there, call)


def dispatched_names(there: World, call: Call) -> list[str]:
    return [found.agent_name for found in there.livekit.rooms_by_name[call.room].dispatches]


async def test_a_waiting_call_is_dispatched_when_a_slot_becomes_free(there: World) -> None:
    there.supply.free = 0
    first, second = await opened(there), await opened(there)
    there.supply.free = 1
    there.gateway.dispatcher.wake_waiting_calls()
    await reaches(there, first, CallState.JOINED)
    assert now(there, second).state is CallState.WAITING, "the only slot is spoken for"
    assert dispatched_names(there, first) == ["ornina-agent"]
    assert dispatched_names(there, second) == [WAITING_AGENT_NAME]
    there.supply.free = 0
    await there.gateway.dispatcher.hang_up(first)
    there.supply.free = 1
    await reaches(there, second, CallState.JOINED)
    assert [name for _, name in there.livekit.launched].count("ornina-agent") == 2


def told(there: World, call: Call) -> DispatchMetadata:
    (found,) = there.livekit.rooms_by_name[call.room].dispatches
    return read_dispatch_metadata(found.metadata)[0]


async def test_calls_beyond_the_seats_are_told_to_do_without_an_avatar(there: World) -> None:
    there.supply.free = there.livekit.slots = 4
    there.supply.seats = 2
    calls = [await opened(there) for _ in range(3)]
    assert [told(there, call).avatar for call in calls] == [True, True, False]
    assert all(told(there, call).call_id == call.id for call in calls)
    labels = {"agent_namespace": "agents", "agent": "ornina"}
    value = there.gateway.metrics.registry.get_sample_value
    assert value("avatar_agent_gateway_dispatches_without_avatar_total", labels) == 1


async def test_seats_are_counted_when_a_call_is_dispatched_not_when_it_begins_to_wait(there: World) -> None:
    there.supply.free, there.supply.seats = 0, 0
    call = await opened(there)
    there.supply.free, there.supply.seats = 1, 1
    await reaches(there, call, CallState.JOINED)
    assert told(there, call).avatar
    assert now(there, call).avatar


async def test_a_call_that_is_sent_again_keeps_to_the_seats_of_that_moment(there: World) -> None:
    there.supply.seats = 1
    call = await opened(there)
    assert told(there, call).avatar
    await reaches(there, call, CallState.JOINED)
    await soon(lambda: now(there, call).agent_seen_at)
    there.supply.seats = 0
    (lost,) = there.livekit.agents_in(call.room)
    there.livekit.leave(call.room, lost)
    await soon(lambda: Cause.AGENT_LOST in now(there, call).causes)
    await reaches(there, call, CallState.JOINED)
    assert not told(there, call).avatar


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ([agent(suspend=True)], CallReason.SUSPENDED),
        ([replace(agent(), name_taken=True)], CallReason.NAME_TAKEN),
        ([], CallReason.AGENT_NOT_FOUND),
    ],
)
async def test_those_who_wait_are_told_at_once_when_their_agent_closes(
    there: World, known: list[Agent | InvalidAgent], reason: CallReason
) -> None:
    there.supply.free = 0
    call = await opened(there)
    there.agents.known = known
    assert (await reaches(there, call, CallState.FAILED)).reason is reason


async def test_an_unreadable_agent_keeps_its_waiting_calls(there: World) -> None:
    there.supply.free = 0
    call = await opened(there)
    there.agents.known = [InvalidAgent("agents", "ornina", "spec.colour: no")]
    await asyncio.sleep(0.05)
    assert now(there, call).state is CallState.WAITING


async def test_an_agent_that_ends_the_call_before_it_was_seen_is_believed(there: World) -> None:
    there.livekit.joins = False
    call = await opened(there)
    room = there.livekit.rooms_by_name[call.room]
    room.metadata = with_outcome(room.metadata, CallOutcome.NO_AVATAR_SEAT)
    over = await reaches(there, call, CallState.FAILED)
    assert (over.reason, over.causes) == (CallReason.NO_AVATAR_SEAT, (Cause.FIRST,))


async def test_no_agent_is_sent_to_a_caller_who_is_not_there(there: World) -> None:
    there.supply.free = 0
    call = await opened(there, caller=False)
    there.supply.free = 1
    there.gateway.dispatcher.wake_waiting_calls()
    await asyncio.sleep(0.05)
    assert now(there, call).state is CallState.WAITING
    there.livekit.enter(call.room, call.identity)
    await reaches(there, call, CallState.JOINED)


async def test_a_caller_who_leaves_the_line_is_forgotten(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "WAITING_CALLER_GRACE_SECONDS", 0.02)
    there.supply.free = 0
    call = await opened(there)
    await soon(lambda: now(there, call).caller_seen_at)
    there.livekit.leave(call.room, call.identity)
    over = await reaches(there, call, CallState.ENDED)
    assert over.reason is CallReason.CALLER_LEFT
    await soon(lambda: call.room not in there.livekit.rooms_by_name)


async def test_blind_dispatches_are_repeated_until_a_worker_takes_one(there: World) -> None:
    there.supply.free, there.livekit.slots = None, 0
    call = await opened(there)
    await soon(lambda: now(there, call).causes.count(Cause.NOT_TAKEN) >= 2)
    there.livekit.slots = 1
    joined = await reaches(there, call, CallState.JOINED)
    assert joined.causes[0] is Cause.FIRST
    assert dispatched_names(there, call) == ["ornina-agent"], "every earlier dispatch was withdrawn"
    assert len(there.livekit.agents_in(call.room)) == 1


async def test_workers_that_decline_twice_fail_the_call(there: World) -> None:
    there.livekit.slots = 0
    call = await opened(there)
    over = await reaches(there, call, CallState.FAILED)
    assert over.reason is CallReason.NOT_ANSWERED
    assert [name for _, name in there.livekit.launched].count("ornina-agent") == 2
    await soon(lambda: call.room not in there.livekit.rooms_by_name)


async def test_a_worker_that_dies_is_replaced_once(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    there.livekit.joins = False
    call = (await there.gateway.opener.open(agent(join_timeout_seconds=2), REQUEST, "public", None)).call
    there.livekit.enter(call.room, call.identity)
    dead = there.livekit.rooms_by_name[call.room].dispatches[0].id
    await soon(lambda: Cause.JOB_DIED in now(there, call).causes)
    await soon(lambda: dead not in [found.id for found in there.livekit.rooms_by_name[call.room].dispatches])
    there.livekit.join(call.room)
    await reaches(there, call, CallState.JOINED)


async def test_a_lost_agent_is_replaced_while_its_caller_stays(there: World) -> None:
    call = await opened(there)
    await reaches(there, call, CallState.JOINED)
    await soon(lambda: now(there, call).agent_seen_at)
    (lost,) = there.livekit.agents_in(call.room)
    there.livekit.leave(call.room, lost)
    await soon(lambda: Cause.AGENT_LOST in now(there, call).causes)
    await reaches(there, call, CallState.JOINED)
    labels = {"agent_namespace": "agents", "agent": "ornina"}
    value = there.gateway.metrics.registry.get_sample_value
    joined = value("avatar_agent_gateway_calls_total", labels | {"outcome": "joined", "reason": ""})
    assert (joined, value("avatar_agent_gateway_join_seconds_count", labels)) == (1, 1), "the call joined once"
    assert len(there.livekit.agents_in(call.room)) == 1
    (lost,) = there.livekit.agents_in(call.room)
    there.livekit.leave(call.room, lost)
    assert (await reaches(there, call, CallState.FAILED)).reason is CallReason.AGENT_LOST


async def test_the_later_of_two_agents_is_removed(there: World) -> None:
    call = await opened(there)
    await reaches(there, call, CallState.JOINED)
    (first,) = there.livekit.agents_in(call.room)
    there.livekit.join(call.room)
    await soon(lambda: there.livekit.agents_in(call.room) == [first])
    assert now(there, call).state is CallState.JOINED


async def test_a_closed_room_ends_the_call(there: World) -> None:
    call = await opened(there)
    await soon(lambda: now(there, call).state is CallState.JOINED and now(there, call).caller_seen_at)
    await there.livekit.delete_room(call.room)
    assert (await reaches(there, call, CallState.ENDED)).reason is CallReason.FINISHED


async def test_a_call_outlives_livekits_silence_and_missing_secrets(there: World) -> None:
    call = await opened(there)
    await reaches(there, call, CallState.JOINED)
    there.livekit.error = LiveKitUnreachable("away")
    await asyncio.sleep(0.05)
    there.livekit.error, there.connections.problem = None, SecretError("gone")
    await asyncio.sleep(0.05)
    there.connections.problem = None
    assert now(there, call).state is CallState.JOINED
    assert len(there.livekit.agents_in(call.room)) == 1


async def test_a_room_that_could_not_be_closed_is_closed_later(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call = await opened(there)
    await reaches(there, call, CallState.JOINED)
    failures = iter([LiveKitUnreachable("away")])
    close = there.livekit.delete_room

    async def delete_room(room: str) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        await close(room)

    monkeypatch.setattr(there.livekit, "delete_room", delete_room)
    monkeypatch.setattr(calls, "JOINED_CALLER_GRACE_SECONDS", 0.0)
    there.livekit.leave(call.room, call.identity)
    await reaches(there, call, CallState.ENDED)
    await soon(lambda: call.room not in there.livekit.rooms_by_name)


async def test_one_bad_step_does_not_end_a_call(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read_room, failures = dispatcher.read_room, iter([ValueError("unforeseen")])

    async def stumbling(*arguments: object) -> object:
        if (error := next(failures, None)) is not None:
            raise error
        return await read_room(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatcher, "read_room", stumbling)
    call = await opened(there)
    await reaches(there, call, CallState.JOINED)


async def test_letting_go_leaves_the_rooms(there: World) -> None:
    call = await opened(there)
    await reaches(there, call, CallState.JOINED)
    await there.gateway.dispatcher.stop()
    assert there.livekit.agents_in(call.room) != []


async def test_the_worker_s_word_ends_the_call_and_no_other_agent_comes(there: World) -> None:
    call = await opened(there)
    await reaches(there, call, CallState.JOINED)
    room = there.livekit.rooms_by_name[call.room]
    room.metadata = with_outcome(room.metadata, CallOutcome.PROVIDER_FAILED)
    there.livekit.leave(call.room, *there.livekit.agents_in(call.room))
    over = await reaches(there, call, CallState.FAILED)
    assert (over.reason, over.causes) == (CallReason.PROVIDER_FAILED, (Cause.FIRST,))
    await soon(lambda: call.room not in there.livekit.rooms_by_name)


@pytest.mark.parametrize("agent_name", ["ornina-agent", WAITING_AGENT_NAME])
async def test_metadata_is_in_the_room_whenever_a_gateway_dies(
    there: World, monkeypatch: pytest.MonkeyPatch, agent_name: str
) -> None:
    call = await opened(there)
    await there.gateway.dispatcher.stop()
    room = there.livekit.rooms_by_name[call.room]
    kept: list[set[str]] = []
    delete, create = there.livekit.delete_dispatch, there.livekit.create_dispatch

    async def delete_dispatch(name: str, dispatch_id: str) -> None:
        await delete(name, dispatch_id)
        kept.append({found.metadata for found in room.dispatches})

    async def create_dispatch(name: str, dispatched_to: str, metadata: str) -> None:
        taken = [found for found in room.dispatches if found.agent_name == dispatched_to]
        assert not taken, "never two for one agent"
        await create(name, dispatched_to, metadata)
        kept.append({found.metadata for found in room.dispatches})

    monkeypatch.setattr(there.livekit, "delete_dispatch", delete_dispatch)
    monkeypatch.setattr(there.livekit, "create_dispatch", create_dispatch)
    await dispatcher.redispatch(there.livekit, call, agent_name)
    assert kept and all(found == {call.dispatch_metadata} for found in kept)
    assert dispatched_names(there, call) == [agent_name]
