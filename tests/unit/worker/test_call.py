"""How a call ends: what happens to its room, and the outcome that the gateway reads there."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import api
from livekit.agents import Agent, JobContext, llm, tts
from livekit.agents.voice import AgentStateChangedEvent, CloseEvent, ConversationItemAddedEvent, ErrorEvent
from prometheus_client import Histogram

from agentspec.wire import (
    REPORTED_OUTCOMES,
    TURNS_ATTRIBUTE,
    CallOutcome,
    DispatchMetadata,
    RoomRecord,
    Speaker,
    Turn,
    WorkerConfig,
    read_turns,
    render,
)
from tests.unit.worker.builders import make_config
from tests.unit.worker.fakes import SIP, FakeParticipant, FakeRoom, close_as_the_job
from tests.waiting import soon
from worker import job_reports, sdk
from worker.call import budget, metrics, voice
from worker.call import call as module
from worker.call.call import Call
from worker.call.caller import Caller

RECORD = json.loads(
    render(
        RoomRecord(
            call_id="c1",
            agent="default/ornina",
            identity="salma",
            created_at=1.0,
            request_hash="h",
            agent_name="ornina-avatar-agent",
        )
    )
)
MAKE_SESSION = voice.make_session
GATEWAY_METADATA = render(DispatchMetadata(call_id="c1", caller_identity="salma"))


class Scene:
    """A call in a room with its caller, and what happens there, in order."""

    def __init__(self, config: WorkerConfig, *, dispatch_metadata: str = GATEWAY_METADATA) -> None:
        self.events: list[str] = []
        self.room = cast(Any, FakeRoom())
        self.room.name, self.room.metadata = "ornina-c1", json.dumps(RECORD)
        self.room.join(FakeParticipant("salma"))
        self.failure: Exception | None = None
        self.left = asyncio.Event()
        self.shutdown_reason = ""
        """What shutdown callbacks get."""
        self.recorded: dict[str, Any] = {}
        self.stored: list[Turn] = []
        """The last turns in LiveKit."""
        context = SimpleNamespace(
            room=self.room,
            job=SimpleNamespace(id="j1", metadata=dispatch_metadata, room=SimpleNamespace(name="ornina-c1")),
            log_context_fields={},
            api=SimpleNamespace(
                room=SimpleNamespace(update_room_metadata=self._update, update_participant=self._update_participant)
            ),
            delete_room=self._delete,
            shutdown=self._shutdown,
        )
        self.call = Call(cast(JobContext, context), config, voice.Stages(config.voice, cast(Any, None)))
        self.call._caller.watch()

    async def _update(self, request: api.UpdateRoomMetadataRequest) -> None:
        if self.failure is not None:
            raise self.failure
        assert request.room == "ornina-c1"
        self.recorded = json.loads(request.metadata)
        self.events.append("recorded")

    async def _update_participant(self, request: api.UpdateParticipantRequest) -> None:
        assert (request.room, request.identity) == ("ornina-c1", "salma")
        self.stored = read_turns(request.attributes[TURNS_ATTRIBUTE])

    async def _deleted(self) -> None:
        self.events.append("deleted")

    def _delete(self) -> "asyncio.Task[None]":
        return asyncio.ensure_future(self._deleted())

    def _shutdown(self, reason: str) -> None:
        self.events.append("left")
        self.shutdown_reason = reason
        self.left.set()

    async def end(self, outcome: CallOutcome) -> list[str]:
        """End the call as the SDK ends a job: the agent leaves, then the callbacks run."""
        self.call.end(outcome, "because")
        await asyncio.wait_for(self.left.wait(), 1)
        await self.call._on_shutdown(outcome)
        return self.events


@pytest.fixture
async def talking(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A call of a gateway whose session runs."""
    stages = voice.Stages(config.voice, voice.make_client(config.voice, "key"))
    session = MAKE_SESSION(stages, config.language)
    monkeypatch.setattr(voice, "make_session", lambda *_: session)
    scene = Scene(config)
    scene.call._follow_session()
    await session.start(Agent(instructions="You are a guide."), record=False)
    yield scene
    await close_as_the_job(session)


class FakeAvatar:
    """An avatar that closes when the test says."""

    def __init__(self, *_: object, **__: Callable[[str], None]) -> None:
        self.may_close = asyncio.Event()
        self.may_close.set()

    async def close(self) -> None:
        await self.may_close.wait()


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "make_session", lambda *_: None)
    monkeypatch.setattr(module, "CallAvatar", FakeAvatar)
    monkeypatch.setattr(budget, "GATEWAY_CLOSE_SECONDS", 0.02)


@pytest.mark.parametrize("outcome", sorted(REPORTED_OUTCOMES))
async def test_gateway_finds_the_outcome_before_the_agent_leaves(config: WorkerConfig, outcome: CallOutcome) -> None:
    scene = Scene(config)
    assert await scene.end(outcome) == ["recorded", "left", "deleted"]
    assert scene.recorded == RECORD | {"outcome": outcome.value}


async def test_crashed_call_leaves_the_room_to_the_gateway(config: WorkerConfig) -> None:
    assert await Scene(config).end(CallOutcome.CRASHED) == ["left"]


@pytest.mark.parametrize("outcome", list(CallOutcome))
async def test_room_without_a_gateway_is_deleted_at_once(config: WorkerConfig, outcome: CallOutcome) -> None:
    assert await Scene(config, dispatch_metadata="").end(outcome) == ["left", "deleted"]


async def test_outcome_is_not_recorded_after_the_caller_left(config: WorkerConfig) -> None:
    assert await Scene(config).end(CallOutcome.CALLER_LEFT) == ["left", "deleted"]


async def test_outcome_is_recorded_in_a_room_whose_record_livekit_lost(config: WorkerConfig) -> None:
    scene = Scene(config)
    scene.call._room_state.load()
    scene.room.metadata = ""
    assert await scene.end(CallOutcome.MAX_LENGTH) == ["recorded", "left", "deleted"]
    assert scene.recorded == RECORD | {"outcome": "max_length"}


async def test_room_is_deleted_when_recording_fails(config: WorkerConfig) -> None:
    scene = Scene(config)
    scene.failure = ConnectionError("unreachable")
    assert await scene.end(CallOutcome.MAX_LENGTH) == ["left", "deleted"]


async def test_deleting_the_room_does_not_wait_for_the_avatar(config: WorkerConfig) -> None:
    scene = Scene(config, dispatch_metadata="")
    avatar = cast(FakeAvatar, scene.call._avatar)
    avatar.may_close.clear()
    ending = asyncio.create_task(scene.end(CallOutcome.CALLER_LEFT))
    await soon(lambda: "deleted" in scene.events)
    assert not ending.done()
    avatar.may_close.set()
    await ending


async def test_room_with_other_participants_is_kept(config: WorkerConfig) -> None:
    scene = Scene(config)
    scene.room.join(FakeParticipant("omar"))
    assert await scene.end(CallOutcome.MAX_LENGTH) == ["left"]


async def test_agent_knows_the_facts_of_the_gateway(config: WorkerConfig) -> None:
    metadata = render(DispatchMetadata(call_id="c1", metadata={"plan": "gold"}))
    agent = await Scene(config, dispatch_metadata=metadata).call._make_agent()
    assert ["gold" in (message.text_content or "") for message in agent.chat_ctx.messages()] == [True]
    assert "gold" not in str(agent.instructions)


ENGLISH = {"languages": ["en"], "greetings": {"en": "Welcome."}}


@pytest.mark.parametrize(
    ("wanted", "greeting", "heard", "answers"),
    [("en-GB", "Welcome.", "en", "in English"), ("fr", "مرحباً", "ar", "in Arabic"), ("", "مرحباً", "ar", "in Arabic")],
)
async def test_call_is_in_the_language_that_it_asks_for(
    config: WorkerConfig, wanted: str, greeting: str, heard: str, answers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(voice, "make_session", lambda _, language, *rest: asked.append(language))
    declared = config.model_copy(update=ENGLISH)
    call = Scene(declared, dispatch_metadata=render(DispatchMetadata(call_id="c1", language=wanted))).call
    agent = await call._make_agent()
    assert call._opening.text == greeting
    assert asked == [heard]
    assert answers in str(agent.instructions)


FOREIGN = json.dumps({"user_id": "u-17", "language": "en", "capabilities": ["video"], "order": {"plan": "gold"}})


async def test_agent_knows_what_another_back_end_sent(config: WorkerConfig) -> None:
    agent = await Scene(config, dispatch_metadata=FOREIGN).call._make_agent()
    (message,) = agent.chat_ctx.messages()
    assert message.role == "user"
    assert json.loads((message.text_content or "").splitlines()[2]) == {
        "userID": "u-17",
        "language": "en",
        "capabilities": ["video"],
        "metadata": {"order.plan": "gold"},
    }
    assert "gold" not in str(agent.instructions)


async def test_call_of_another_back_end_reports_no_outcome(config: WorkerConfig) -> None:
    assert await Scene(config, dispatch_metadata=FOREIGN).end(CallOutcome.MAX_LENGTH) == ["left", "deleted"]


async def test_shortened_metadata_is_logged_by_count_only(
    config: WorkerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    Scene(config, dispatch_metadata=json.dumps({f"secret-{number}": "hidden" for number in range(40)}))
    (record,) = [record for record in caplog.records if record.message == "dispatch metadata shortened"]
    assert record.__dict__["dropped"] == 8
    assert "secret" not in caplog.text and "hidden" not in str(record.__dict__)


def ring(scene: Scene, status: str) -> None:
    """Replace the caller by a telephone with this status."""
    scene.room.leave("salma")
    scene.call._caller.unwatch()
    scene.call._caller = Caller(scene.room, "", on_left=scene.call._on_caller_left)
    attributes = {"sip.callStatus": status, "sip.phoneNumber": "+963110000"}
    scene.room.join(FakeParticipant("sip_1", kind=SIP, attributes=attributes))
    scene.call._caller.watch()


async def test_number_of_a_telephone_is_a_fact_once_it_answers() -> None:
    scene = Scene(make_config(greeting="", conversation={"idlePromptSeconds": 0}), dispatch_metadata="")
    agent = Agent(instructions="You are a guide.")
    scene.call._session = cast(Any, SimpleNamespace(current_agent=agent))
    ring(scene, "ringing")
    conversing = asyncio.create_task(scene.call._converse())
    await asyncio.sleep(0)
    scene.room.change("sip_1", {"sip.callStatus": "active"})
    await asyncio.wait_for(conversing, 1)
    (message,) = agent.chat_ctx.messages()
    assert (message.role, "+963110000" in (message.text_content or "")) == ("user", True)
    assert "+963110000" not in str(agent.instructions)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("active", CallOutcome.CALLER_LEFT), ("ringing", CallOutcome.CALLER_ABSENT)],
    ids=["hung up", "not answered"],
)
async def test_end_of_a_telephone_call_is_known_at_once(status: str, outcome: CallOutcome) -> None:
    scene = Scene(make_config(), dispatch_metadata="")
    ring(scene, status)
    scene.room.change("sip_1", {"sip.callStatus": "hangup"})
    assert scene.call._outcome is outcome


@pytest.mark.parametrize("joined", [True, False], ids=["rings too long", "never joins"])
async def test_caller_who_does_not_come_ends_the_call(monkeypatch: pytest.MonkeyPatch, joined: bool) -> None:
    monkeypatch.setattr(budget, "CALLER_SECONDS", 0.02)
    monkeypatch.setattr(budget, "RINGING_SECONDS", 0.02)
    scene = Scene(make_config(greeting=""), dispatch_metadata="")
    ring(scene, "ringing")
    if not joined:
        scene.call._caller = Caller(scene.room, "omar", on_left=scene.call._on_caller_left)
    await asyncio.wait_for(scene.call._converse(), 1)
    assert scene.call._outcome is CallOutcome.CALLER_ABSENT


async def test_turns_of_both_sides_are_stored_in_livekit(config: WorkerConfig) -> None:
    scene = Scene(config)
    scene.call._spawn(scene.call._room_state.run(), "store_state")
    for role, text in (("assistant", "مرحباً"), ("user", "أين مكتبكم؟")):
        message = llm.ChatMessage(role=role, content=[text])  # type: ignore[arg-type]
        scene.call._on_item(ConversationItemAddedEvent(item=message))
    await soon(lambda: scene.stored)
    assert scene.stored == [Turn(speaker=Speaker.AGENT, text="مرحباً"), Turn(speaker=Speaker.CALLER, text="أين مكتبكم؟")]
    await scene.end(CallOutcome.CALLER_LEFT)
    assert not scene.call._tasks


async def test_nothing_is_said_once_the_session_closes(config: WorkerConfig) -> None:
    scene = Scene(config)
    scene.call._spawn(asyncio.Event().wait(), "converse")  # type: ignore[arg-type]
    (greeting,) = scene.call._tasks
    scene.call._on_closing()
    scene.call._repeat_speech()  # there is no session to speak with
    await asyncio.wait({greeting}, timeout=1)
    assert greeting.cancelled()
    assert scene.call._outcome is None


@pytest.mark.parametrize(
    ("how", "reason"),
    [("session.shutdown", "agent_ended"), ("session.aclose", "agent_ended"), ("context.shutdown", "done")],
)
async def test_own_code_ends_the_call(talking: Scene, how: str, reason: str) -> None:
    call = talking.call
    match how:
        case "session.shutdown":
            call._session.shutdown()
        case "session.aclose":
            await call._session.aclose()
        case _:
            call._context.shutdown("done")
    await asyncio.wait_for(talking.left.wait(), 5)
    await call._on_shutdown("done")
    assert talking.events == ["recorded", "left", "deleted"]
    assert talking.recorded == RECORD | {"outcome": "agent_ended"}
    assert talking.shutdown_reason == reason


async def test_own_code_that_ends_an_ended_call_changes_no_reason(talking: Scene) -> None:
    talking.call.end(CallOutcome.CALLER_LEFT, "because")
    talking.call._context.shutdown("done")
    await asyncio.wait_for(talking.left.wait(), 5)
    assert talking.shutdown_reason == "caller_left"


async def test_own_code_ends_the_call_although_the_job_ends_meanwhile(talking: Scene) -> None:
    talking.call._session.shutdown()
    await close_as_the_job(talking.call._session)
    assert talking.call._outcome is CallOutcome.AGENT_ENDED


async def test_worker_that_stops_a_call_leaves_the_room_to_the_gateway(talking: Scene) -> None:
    stopped = metrics.ENDED.labels(CallOutcome.STOPPED)._value.get()
    await close_as_the_job(talking.call._session)
    await talking.call._on_shutdown("parent process shutdown")
    assert (talking.events, talking.recorded) == ([], {})
    assert metrics.ENDED.labels(CallOutcome.STOPPED)._value.get() == stopped + 1


async def test_session_that_closes_after_the_caller_left_changes_no_outcome(
    talking: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "REJOIN_SECONDS", 0.01)
    talking.room.leave("salma")
    await asyncio.wait_for(talking.left.wait(), 5)
    talking.call._context.shutdown("done")
    talking.call._session.shutdown()
    await close_as_the_job(talking.call._session)
    assert talking.call._outcome is CallOutcome.CALLER_LEFT
    assert (talking.events, talking.recorded) == (["left"], {})


async def test_session_that_closes_in_a_lost_room_ends_no_call(talking: Scene) -> None:
    talking.room.connected = False
    closed: list[CloseEvent] = []
    talking.call._session.on("close", closed.append)
    await talking.call._session.aclose()
    await soon(lambda: closed)
    assert (talking.call._outcome, talking.events) == (None, [])


def total(metric: Histogram) -> float:
    """How many observations a histogram has."""
    return float(sum(bucket.get() for bucket in metric._buckets))


def speak(call: Call) -> None:
    """Let the agent become audible, as the session reports it."""
    call._on_agent_state(AgentStateChangedEvent(old_state="listening", new_state="speaking"))


@pytest.mark.parametrize(
    ("created_ago", "dispatch_metadata", "greeting", "answers", "greetings"),
    [
        (1.2, GATEWAY_METADATA, "Hello", 1, 1),
        (-0.5, GATEWAY_METADATA, "Hello", 1, 1),
        (1.2, FOREIGN, "Hello", 0, 1),
        (1.2, GATEWAY_METADATA, "", 0, 0),
        (600.0, GATEWAY_METADATA, "Hello", 0, 1),
    ],
    ids=["gateway", "clock of the gateway ahead", "another back end", "no greeting", "replaces a lost agent"],
)
async def test_answer_is_measured_from_the_request_to_the_gateway(
    document: dict[str, Any], created_ago: float, dispatch_metadata: str, greeting: str, answers: int, greetings: int
) -> None:
    scene = Scene(WorkerConfig.model_validate(document | {"greeting": greeting}), dispatch_metadata=dispatch_metadata)
    scene.room.metadata = json.dumps(RECORD | {"createdAt": time.time() - created_ago})
    before = total(metrics.ANSWER_DURATION), total(metrics.GREETING_DURATION), metrics.ANSWER_DURATION._sum.get()
    speak(scene.call)
    assert total(metrics.GREETING_DURATION) == before[1], "the caller has not arrived"
    scene.call._caller_arrived = time.monotonic()
    speak(scene.call)
    speak(scene.call)
    assert total(metrics.ANSWER_DURATION) - before[0] == answers
    assert total(metrics.GREETING_DURATION) - before[1] == greetings
    if answers:
        assert metrics.ANSWER_DURATION._sum.get() - before[2] == pytest.approx(max(0.0, created_ago), abs=0.1)


async def test_answer_of_a_rescue_is_not_measured_again(config: WorkerConfig) -> None:
    scene = Scene(config)
    scene.room.metadata = json.dumps(RECORD | {"createdAt": time.time() - 20})
    before = total(metrics.ANSWER_DURATION)
    await scene.call._opening.resume(Agent(instructions=""), [Turn(speaker=Speaker.AGENT, text="مرحباً")])
    scene.call._caller_arrived = time.monotonic()
    speak(scene.call)
    assert total(metrics.ANSWER_DURATION) == before


async def test_ended_call_has_one_outcome_and_one_duration(config: WorkerConfig) -> None:
    ended = metrics.ENDED.labels(CallOutcome.MAX_LENGTH)._value.get()
    durations = total(metrics.CALL_DURATION)
    scene = Scene(config)
    scene.call.end(CallOutcome.MAX_LENGTH, "because")
    await scene.end(CallOutcome.CRASHED)
    assert metrics.ENDED.labels(CallOutcome.MAX_LENGTH)._value.get() == ended + 1
    assert total(metrics.CALL_DURATION) == durations + 1


async def test_main_process_learns_that_the_agent_left_before_the_avatar_closes(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[str, CallOutcome]] = []
    monkeypatch.setattr(job_reports, "ended", lambda job_id, outcome: ended.append((job_id, outcome)))
    scene = Scene(config)
    avatar = cast(FakeAvatar, scene.call._avatar)
    avatar.may_close.clear()
    ending = asyncio.create_task(scene.call._on_shutdown(sdk.ROOM_DISCONNECTED))
    await asyncio.sleep(0)
    assert ended == [("j1", CallOutcome.ROOM_CLOSED)]
    avatar.may_close.set()
    await ending


@pytest.mark.parametrize(("recoverable", "retried"), [(True, "true"), (False, "false")], ids=["retried", "final"])
async def test_provider_errors_are_counted_by_whether_they_are_retried(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch, recoverable: bool, retried: str
) -> None:
    scene = Scene(config)
    apologies: list[str] = []

    def spawn(work: Coroutine[None, None, None], name: str) -> None:
        work.close()
        apologies.append(name)

    monkeypatch.setattr(scene.call._turns, "_spawn", spawn)
    counter = metrics.PROVIDER_ERRORS.labels("tts", retried)
    before = counter._value.get()
    error = tts.TTSError(timestamp=0.0, label="", error=TimeoutError(), recoverable=recoverable)
    scene.call._turns._on_error(ErrorEvent(error=error, source=None))
    assert counter._value.get() == before + 1
    assert apologies == ([] if recoverable else ["apologise"]), "the caller hears nothing of a retry"
