"""What the caller hears when a stage misbehaves: a session against the simulated OpenAI, in a quarter of the time.

The session, its stages and the HTTP client are the real ones. The simulator answers within this process. A test hears
the prepared phrases and the reply by the value of their samples.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import groupby
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from livekit import rtc
from livekit.agents import JobContext
from livekit.agents.voice import UserStateChangedEvent
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities

from agentspec.wire import CallOutcome
from devkit.providers import synthesis
from devkit.providers.openai.app import make_app
from devkit.providers.recognition import Transcript
from devkit.providers.simulator import Fault, FaultKind, Settings
from tests.unit.worker.builders import make_config
from tests.unit.worker.fakes import FakeRoom, close_as_the_job, silence
from tests.waiting import soon
from worker import stages
from worker.call import budget, metrics, phrases, sentences, voice
from worker.call.call import Call
from worker.call.reply_output import ReplyOutput
from worker.call.tools.use import ToolFailed
from worker.call.turn_stt import TurnSTT

ONE_MOMENT, APOLOGY, REPLY = 1, 2, 3
"""What the caller hears, as the value of its samples."""
SCALE = 0.25
KEY = "sk-simulated"
ALWAYS = None


TOOLS = [{"name": "delivery_date", "http": {"description": "d", "url": "http://127.0.0.1:9/", "method": "GET"}}]
ASKS_FOR_THE_TOOL = "What is the delivery date?"


class Recogniser:
    """Understands what the test says."""

    languages = frozenset({"ar", "en"})
    text = "When are you open?"

    def transcribe_file(self, content: bytes, language: str | None, prompt: str | None) -> Transcript:
        return Transcript(self.text, "en", 1.0)


class Loudspeaker(AudioOutput):
    """Plays at once what it is given, and records the value of each sample."""

    def __init__(self) -> None:
        super().__init__(label="loud", capabilities=AudioOutputCapabilities(pause=True), sample_rate=24000)
        self.values: list[int] = []
        self._pushed_seconds = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        if not self._pushed_seconds:
            asyncio.get_running_loop().call_soon(lambda: self.on_playback_started(created_at=0.0))
        await super().capture_frame(frame)
        self._pushed_seconds += frame.duration
        self.values.extend(value for value in set(frame.data) if value)

    def flush(self) -> None:
        super().flush()
        self._end(interrupted=False)

    def clear_buffer(self) -> None:
        self._end(interrupted=True)

    def _end(self, *, interrupted: bool) -> None:
        seconds, self._pushed_seconds = self._pushed_seconds, 0.0
        if seconds:
            report = lambda: self.on_playback_finished(playback_position=seconds, interrupted=interrupted)  # noqa: E731
            asyncio.get_running_loop().call_soon(report)

    @property
    def heard(self) -> list[int]:
        """What was heard, in order; one entry for each phrase."""
        return [value for value, _ in groupby(self.values)]


def tone(value: int, seconds: float = 0.02) -> rtc.AudioFrame:
    """Return audio whose samples all have a value."""
    samples = np.full(int(seconds * 24000), value, dtype=np.int16)
    return rtc.AudioFrame(samples.tobytes(), sample_rate=24000, num_channels=1, samples_per_channel=len(samples))


class Scene:
    """A call in conversation, without a room."""

    def __init__(self, base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        openai = {"baseURL": base_url, "credentialsSecretRef": {"name": "openai"}}
        config = make_config(language="en", voice={"openai": openai}, tools=TOOLS)
        self.stages = voice.Stages(config.voice, voice.make_client(config.voice, KEY))
        room = cast(Any, FakeRoom())
        room.name, room.metadata = "ornina-c1", ""
        job = SimpleNamespace(id="j1", metadata="", room=SimpleNamespace(name="ornina-c1"))
        context = SimpleNamespace(room=room, job=job, log_context_fields={}, shutdown=lambda _: None)
        self.call = Call(cast(JobContext, context), config, self.stages)
        self.session = self.call._session
        self.loudspeaker = Loudspeaker()
        output = ReplyOutput(self.loudspeaker)
        self.call._output = self.call._turns._turns._output = output
        texts = sentences.for_language("en")
        tones = {texts.one_moment: tone(ONE_MOMENT), texts.apology: tone(APOLOGY)}

        async def prepared(text: str, *_: object) -> rtc.AudioFrame:
            return tones[text]

        monkeypatch.setattr(phrases, "audio", prepared)

    async def start(self) -> None:
        self.call._follow_session()
        await self.session.start(await self.call._make_agent())
        await soon(lambda: self.call._turns._apology is not None)

    async def say(self) -> None:
        """Let the caller say something, as the session notices it, and the agent reply to it."""
        self.session.emit("user_state_changed", UserStateChangedEvent(old_state="listening", new_state="speaking"))
        self.session.emit("user_state_changed", UserStateChangedEvent(old_state="speaking", new_state="listening"))
        stage = cast(TurnSTT, self.session.stt)
        event = await stage.recognize(silence(0.5), conn_options=voice.STT_CONNECTION)
        if event.alternatives and event.alternatives[0].text:
            _ = self.session.generate_reply(user_input=event.alternatives[0].text)

    def replies(self) -> list[str]:
        """Return what the agent has said in full."""
        items = self.session.history.items
        return [item.text_content or "" for item in items if item.type == "message" and item.role == "assistant"]

    async def close(self) -> None:
        self.call._turns.close()
        self.call._cancel_tasks()
        await close_as_the_job(self.session)
        await self.stages.aclose()
        await self.call._agent_audio.close()

    @property
    def heard(self) -> list[int]:
        return self.loudspeaker.heard


class Provider:
    """The simulated OpenAI within this process."""

    def __init__(self, server: TestServer) -> None:
        self.url = str(server.make_url("/v1"))
        self._server = server

    async def set_fault(self, kind: FaultKind, stage: str, times: int | None, **details: int) -> None:
        fault = Fault(kind=kind, endpoints=(ENDPOINTS[stage],), times=times, **details)
        await self._request("PUT", Settings(faults=(fault,)).model_dump_json())

    async def requests(self, stage: str) -> int:
        document = await self._request("GET", None)
        return int(document["requests"][ENDPOINTS[stage]]["total"])

    async def _request(self, method: str, body: str | None) -> dict[str, Any]:
        async with (
            ClientSession() as session,
            session.request(method, self._server.make_url("/_simulator"), data=body) as response,
        ):
            assert response.status == 200, await response.text()
            return cast("dict[str, Any]", await response.json())


ENDPOINTS = {"stt": "transcriptions", "llm": "chat", "tts": "speech"}


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    def speak(text: str, *_: object) -> synthesis.Samples:
        return np.full(24000, REPLY, dtype=np.int16)

    monkeypatch.setattr(synthesis, "speak", speak)
    app = make_app(KEY, Settings(), recogniser=cast(Any, Recogniser))
    server = TestServer(app, handler_cancellation=True)
    async with server:
        yield Provider(server)


@pytest.fixture
async def scene(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    for name in ("ONE_MOMENT", "ONE_MOMENT_AGAIN", "GIVE_UP", "SPEECH_END", "MAX_RETRY_AFTER", "STT"):
        monkeypatch.setattr(budget, f"{name}_SECONDS", getattr(budget, f"{name}_SECONDS") * SCALE)
    for stage in ("STT", "LLM", "TTS"):
        seconds = getattr(budget, f"{stage}_ATTEMPT_SECONDS") * SCALE
        monkeypatch.setattr(budget, f"{stage}_ATTEMPT_SECONDS", seconds)
        monkeypatch.setattr(voice, f"{stage}_CONNECTION", voice._connection(seconds))
    scene = Scene(provider.url, monkeypatch)
    await scene.start()
    yield scene
    await scene.close()


STAGES = ["stt", "llm", "tts"]
REFUSALS = [FaultKind.UNAUTHORIZED, FaultKind.SERVER_ERROR, FaultKind.QUOTA]


async def heard_at_last(scene: Scene, value: int) -> list[int]:
    """What was heard once the caller has heard the given phrase."""
    await soon(lambda: value in scene.heard)
    return scene.heard


def failures(stage: str) -> float:
    return float(metrics.PROVIDER_ERRORS.labels(stage, "false")._value.get())


async def test_healthy_turn_is_only_the_reply(scene: Scene) -> None:
    await scene.say()
    assert (await heard_at_last(scene, REPLY))[-1] == REPLY
    assert APOLOGY not in scene.heard


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("stage", STAGES)
async def test_refused_request_ends_with_the_apology(
    scene: Scene, provider: Provider, stage: str, kind: FaultKind
) -> None:
    await provider.set_fault(kind, stage, ALWAYS)
    before = failures(stage)
    await scene.say()
    assert (await heard_at_last(scene, APOLOGY))[-1] == APOLOGY
    assert REPLY not in scene.heard
    assert failures(stage) == before + 1


@pytest.mark.parametrize("stage", STAGES)
async def test_stalled_request_is_bridged_and_ends_with_the_apology(
    scene: Scene, provider: Provider, stage: str
) -> None:
    await provider.set_fault(FaultKind.STALL, stage, ALWAYS)
    before = failures(stage)
    await scene.say()
    assert await heard_at_last(scene, APOLOGY) == [ONE_MOMENT, APOLOGY]
    assert failures(stage) == before + 1


@pytest.mark.parametrize("stage", STAGES)
async def test_request_that_stalls_once_is_retried_in_time(scene: Scene, provider: Provider, stage: str) -> None:
    await provider.set_fault(FaultKind.STALL, stage, 1)
    await scene.say()
    assert await heard_at_last(scene, REPLY) == [ONE_MOMENT, REPLY]


async def test_slow_model_is_bridged_and_answers(scene: Scene, provider: Provider) -> None:
    await provider.set_fault(FaultKind.SLOW, "llm", ALWAYS, delay_ms=round(3000 * SCALE))
    await scene.say()
    assert await heard_at_last(scene, REPLY) == [ONE_MOMENT, REPLY]


@pytest.mark.parametrize("stage", ["stt", "llm"])
async def test_answer_that_is_cut_off_ends_with_the_apology(scene: Scene, provider: Provider, stage: str) -> None:
    await provider.set_fault(FaultKind.HALF_CLOSE, stage, ALWAYS)
    before = failures(stage)
    await scene.say()
    assert (await heard_at_last(scene, APOLOGY))[-1] == APOLOGY
    assert failures(stage) == before + 1


@pytest.mark.parametrize("stage", ["llm", "tts"])
async def test_answer_that_stalls_half_way_ends_with_the_apology(scene: Scene, provider: Provider, stage: str) -> None:
    await provider.set_fault(FaultKind.HALF_STALL, stage, ALWAYS)
    before = failures(stage)
    await scene.say()
    assert REPLY in await heard_at_last(scene, APOLOGY)
    assert scene.heard[-1] == APOLOGY
    assert failures(stage) == before + 1


@pytest.mark.parametrize("stage", STAGES)
async def test_short_rate_limit_is_waited_for(scene: Scene, provider: Provider, stage: str) -> None:
    await provider.set_fault(FaultKind.RATE_LIMITED, stage, 1, retry_after_seconds=0)
    await scene.say()
    assert (await heard_at_last(scene, REPLY))[-1] == REPLY
    assert APOLOGY not in scene.heard
    assert await provider.requests(stage) == 2


@pytest.mark.parametrize("stage", STAGES)
async def test_long_rate_limit_fails_at_once(scene: Scene, provider: Provider, stage: str) -> None:
    await provider.set_fault(FaultKind.RATE_LIMITED, stage, ALWAYS, retry_after_seconds=30)
    await scene.say()
    assert (await heard_at_last(scene, APOLOGY))[-1] == APOLOGY
    assert await provider.requests(stage) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_empty_answer_is_a_failed_turn(
    scene: Scene, provider: Provider, caplog: pytest.LogCaptureFixture, stage: str
) -> None:
    await provider.set_fault(FaultKind.EMPTY, stage, ALWAYS)
    before = failures(stage)
    await scene.say()
    assert (await heard_at_last(scene, APOLOGY))[-1] == APOLOGY
    assert failures(stage) == before + 1
    if stage == "llm":
        (record,) = (record for record in caplog.records if record.message == "provider failed")
        facts = record.__dict__
        assert (facts["finish_reason"], facts["max_tokens"]) == ("length", 400)
        assert facts["error"] == stages.EmptyReply.__name__


async def test_request_that_is_too_long_is_logged_with_the_providers_code(
    scene: Scene, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    await provider.set_fault(FaultKind.TOO_LONG, "llm", ALWAYS)
    await scene.say()
    assert (await heard_at_last(scene, APOLOGY))[-1] == APOLOGY
    (record,) = (record for record in caplog.records if record.message == "provider failed")
    facts = record.__dict__
    assert (facts["stage"], facts["status"], facts["code"]) == ("llm", 400, "context_length_exceeded")
    assert await provider.requests("llm") == 1, "the same request would fail again"


async def test_noise_without_a_transcript_is_not_answered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recogniser, "text", "")
    await scene.say()
    assert scene.call._turns._turns._budget.next_due() is None
    assert scene.heard == []


async def test_one_moment_is_not_part_of_the_conversation(scene: Scene, provider: Provider) -> None:
    await provider.set_fault(FaultKind.STALL, "llm", 1)
    await scene.say()
    await heard_at_last(scene, REPLY)
    await soon(lambda: len(scene.session.history.messages()) >= 2)
    assert [message.role for message in scene.session.history.messages()] == ["user", "assistant"]
    assert sentences.for_language("en").one_moment not in str(scene.session.history.messages())


async def test_call_ends_when_turn_after_turn_fails(scene: Scene, provider: Provider) -> None:
    await provider.set_fault(FaultKind.SERVER_ERROR, "llm", ALWAYS)
    for _ in range(budget.MAX_FAILED_TURNS):
        await scene.say()
        await soon(lambda: scene.call._turns._apologising)
        await soon(lambda: not scene.call._turns._apologising)
        assert scene.call._outcome is None
    await scene.say()
    await soon(lambda: scene.call._outcome is CallOutcome.PROVIDER_FAILED)


async def test_turn_without_a_busy_stage_ends_with_the_apology(scene: Scene) -> None:
    scene.call._turns._turns._on_transcription_started()
    scene.call._turns._turns._on_transcription_ended(True)
    assert await heard_at_last(scene, APOLOGY) == [ONE_MOMENT, APOLOGY]


async def test_nothing_is_said_after_the_end_of_the_call(scene: Scene) -> None:
    scene.call._turns._turns._on_transcription_started()
    scene.call.end(CallOutcome.CALLER_LEFT, "because")
    await asyncio.sleep(budget.GIVE_UP_SECONDS + 0.1)
    assert scene.heard == []


async def test_failure_while_own_code_closes_the_session_changes_no_outcome(scene: Scene, provider: Provider) -> None:
    await provider.set_fault(FaultKind.SERVER_ERROR, "llm", ALWAYS)
    before = failures("llm")
    _ = scene.session.generate_reply(user_input="Goodbye.")
    scene.session.shutdown()
    await soon(lambda: scene.call._outcome)
    assert failures("llm") == before + 1, "the failure came while the session closed"
    assert (scene.call._outcome, scene.heard) == (CallOutcome.AGENT_ENDED, [])


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Future[str]]:
    """The request of a tool, which ends with the result that the test sets. The caller asks for the tool."""
    result: asyncio.Future[str] = asyncio.get_event_loop().create_future()

    async def send(*_: object) -> str:
        return await result

    monkeypatch.setattr("worker.call.tools.http._send", send)
    monkeypatch.setattr(Recogniser, "text", ASKS_FOR_THE_TOOL)
    yield result


async def test_slow_tool_is_bridged_until_the_reply(scene: Scene, tool: asyncio.Future[str]) -> None:
    await scene.say()
    await soon(lambda: scene.loudspeaker.values.count(ONE_MOMENT) >= 2)
    assert scene.heard == [ONE_MOMENT], "the turn is not given up"
    tool.set_result("It comes on Friday.")
    assert await heard_at_last(scene, REPLY) == [ONE_MOMENT, REPLY]
    await soon(lambda: scene.replies() == ["It comes on Friday."])


async def test_failed_tool_is_explained_by_the_model(scene: Scene, tool: asyncio.Future[str]) -> None:
    tool.set_exception(ToolFailed("the server answered HTTP 500"))
    await scene.say()
    await soon(lambda: any("HTTP 500. Tell the caller" in reply for reply in scene.replies()))
    assert APOLOGY not in scene.heard
