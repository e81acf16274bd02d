"""A realtime model in place of stt and llm: the product's session against the simulated Realtime API."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pytest
from aiohttp.test_utils import TestServer
from livekit import rtc
from livekit.agents import Agent, APIStatusError, JobContext, function_tool, llm
from livekit.agents.voice import AgentSession, UserStateChangedEvent

from agentspec import MCPServer
from agentspec.tools import KNOWLEDGE_SEARCH
from agentspec.wire import KnowledgeDocument, ProviderStage, WorkerConfig
from devkit.providers import synthesis
from devkit.providers.openai.app import make_app
from devkit.providers.recognition import Transcript
from devkit.providers.simulator import Settings
from tests.unit.worker.builders import make_config
from tests.unit.worker.conversation import Microphone, Speaker, speech
from tests.unit.worker.fakes import FakeRoom, close_as_the_job
from tests.unit.worker.test_turns import APOLOGY, ONE_MOMENT, REPLY, SCALE, Loudspeaker, tone
from tests.waiting import soon
from worker import realtime
from worker.call import budget, metrics, phrases, sentences, voice
from worker.call.call import Call
from worker.call.providers.make import Keys
from worker.call.reply_output import ReplyOutput
from worker.call.retrieval import PassageIndex
from worker.call.tools import Tools, mcp
from worker.call.tools.knowledge import knowledge_tool
from worker.call.tools.mcp import MCPTools
from worker.call.voice import Stages
from worker.provider_reports import ProviderLog
from worker.realtime import TurnModel, TurnSession
from worker.server import trials

KEY: Final = "sk-simulated"
KNOWLEDGE: Final = KnowledgeDocument(name="hours", text="## When are you open?\nFrom nine to five.")
ANSWER: Final = "From nine to five."


class Recogniser:
    """Understands what the test says, and notes how long the audio was."""

    languages = frozenset({"ar", "en"})
    text = "When are you open?"
    seconds: list[float]

    def __init__(self) -> None:
        type(self).seconds = []

    def transcribe(self, pcm: synthesis.Samples, rate: int, language: str | None = None) -> Transcript:
        self.seconds.append(len(pcm) / rate)
        return Transcript(self.text, language or "en", len(pcm) / rate)


class Provider:
    """The simulated OpenAI within this process."""

    def __init__(self, server: TestServer) -> None:
        self.url = str(server.make_url("/v1"))
        self._app = server.app
        self.spoken: list[str] = []
        """What was synthesised, by realtime models and by tts."""

    def set_fault(self, kind: str, endpoint: str = "realtime", times: int | None = None, **more: int) -> None:
        fault = {"kind": kind, "endpoints": [endpoint], "times": times, **more}
        self.configure(Settings.model_validate({"faults": [fault]}))

    configure: Callable[[Settings], None]


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Provider]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    from devkit.providers.openai import app as module

    made: list[module.OpenAI] = []
    real = module.OpenAI

    def make(*args: Any) -> module.OpenAI:
        made.append(real(*args))
        return made[0]

    monkeypatch.setattr(module, "OpenAI", make)
    server = TestServer(make_app(KEY, Settings(), recogniser=cast(Any, Recogniser)), handler_cancellation=True)
    async with server:
        found = Provider(server)
        found.configure = made[0].configure

        def speak(text: str, *_: object) -> synthesis.Samples:
            found.spoken.append(text)
            return np.full(24_000, REPLY, dtype=np.int16)

        monkeypatch.setattr(synthesis, "speak", speak)
        yield found


def config_of(provider: Provider, **voice_changes: object) -> WorkerConfig:
    declared = {"openai": {"baseURL": provider.url, "credentialsSecretRef": {"name": "openai"}}, "realtime": {}}
    return make_config(
        language="en",
        greeting="Hello!",
        knowledge=[KNOWLEDGE.model_dump()],
        voice=declared | voice_changes,
    )


def stages_of(config: WorkerConfig, key: str = KEY) -> Stages:
    return Stages(config.voice, voice.make_client(config.voice, key))


async def close(session: AgentSession[None]) -> None:
    """Close a session and what its model has opened outside of a call process."""
    assert isinstance(session.llm, TurnModel)
    await close_as_the_job(session)
    await session.llm.aclose()


class Talk:
    """A running session in real time."""

    def __init__(self, session: AgentSession[None]) -> None:
        self.session = session
        self.microphone = Microphone()
        self.speaker = Speaker(can_pause=True)

    def messages(self, role: str) -> list[str]:
        items = self.session.history.items
        return [item.text_content or "" for item in items if item.type == "message" and item.role == role]


@asynccontextmanager
async def talk(config: WorkerConfig, agent: Agent, tools: Tools | None = None) -> AsyncIterator[Talk]:
    stages = stages_of(config)
    found = Talk(voice.make_session(stages, "en", tools=tools))
    model = found.session.llm
    assert isinstance(model, TurnModel)
    found.session.on("user_state_changed", lambda event: model.caller_speaks(event.new_state == "speaking"))
    found.session.input.audio = found.microphone
    found.session.output.audio = found.speaker
    await found.session.start(agent, record=False)
    try:
        yield found
    finally:
        await close(found.session)
        await found.speaker.aclose()
        await stages.aclose()


async def test_caller_is_heard_and_answered(provider: Provider) -> None:
    async with talk(config_of(provider), agent()) as found:
        found.microphone.play(np.zeros(16_000, np.int16))
        found.microphone.play(speech(1.0))
        await soon(lambda: ANSWER in found.messages("assistant"))
        assert Recogniser.text in found.messages("user")
        assert provider.spoken == [ANSWER]
        assert 1.0 < Recogniser.seconds[0] < 2.9, "the turn with its padding, without the silence before it"


async def test_caller_interrupts_the_reply(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "speak", lambda *_: np.full(20 * 24_000, REPLY, dtype=np.int16))
    async with talk(config_of(provider), agent()) as found:
        found.microphone.play(speech(1.0))
        await soon(lambda: found.speaker.times("started"))
        found.microphone.play(speech(1.0))
        await soon(lambda: len(found.speaker.times("started")) == 2)
        assert found.speaker.times("paused") or found.speaker.times("cleared")
        assert len(found.messages("user")) == 2


def agent(tools: list[Any] | None = None) -> Agent:
    text = f'<knowledge name="{KNOWLEDGE.name}">\n{KNOWLEDGE.text}\n</knowledge>'
    return Agent(instructions=f"You are Ornina.\n{text}", tools=tools or [])


async def test_tool_of_own_code_is_called_and_its_result_said(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recogniser, "text", "What is the delivery date?")
    async with talk(config_of(provider), agent([delivery_date])) as found:
        found.microphone.play(speech(1.0))
        await soon(lambda: "On Friday." in found.messages("assistant"))


@function_tool
async def delivery_date() -> str:
    """Return the delivery date."""
    return "On Friday."


class MCPListing:
    """An MCP server that lists one tool, `branch_phone`, when the test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_list = asyncio.Event()
        self.tools = MCPTools("shop", MCPServer.model_validate({"url": "http://shop.test/mcp"}), {}, lambda _: True)

        async def run(raw_arguments: dict[str, object]) -> str:
            return "Two three four."

        schema = {"name": "branch_phone", "description": "d", "parameters": {"type": "object", "properties": {}}}
        tool = function_tool(run, raw_schema=schema)

        async def listed(*_: object) -> tuple[Any, dict[str, Any]]:
            await self.may_list.wait()
            return SimpleNamespace(aclose=self._close), {"branch_phone": tool}

        monkeypatch.setattr(mcp, "listed", listed)

    async def _close(self) -> None: ...

    async def list(self) -> None:
        """List the tools, and wait until the call has them."""
        self.may_list.set()
        connecting = self.tools._connecting
        assert connecting is not None
        await connecting


def offered(session: AgentSession[None]) -> set[str]:
    """Return the names of the tools that the realtime model has; none while an agent starts."""
    try:
        return set(session.current_agent.realtime_llm_session.tools.function_tools)
    except RuntimeError:
        return set()


async def test_tools_of_an_mcp_server_reach_a_running_model(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recogniser, "text", "What is the phone number of the branch?")
    server = MCPListing(monkeypatch)
    async with talk(config_of(provider), agent([delivery_date]), [server.tools]) as found:
        assert offered(found.session) == {"delivery_date"}
        speech_ = found.session.say("One moment.")
        await soon(lambda: found.speaker.times("started"))
        await server.list()
        assert offered(found.session) == {"delivery_date", "branch_phone"}
        await speech_.wait_for_playout()
        assert not speech_.interrupted
        found.microphone.play(speech(1.0))
        await soon(lambda: any("Two three four." in said for said in found.messages("assistant")))
        found.session.update_agent(agent())
        await soon(lambda: offered(found.session) == {"branch_phone"})


async def test_listed_tool_leaves_an_agents_own_to_the_model(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(raw_arguments: dict[str, object]) -> str:
        return "Nine nine nine."

    own = function_tool(run, raw_schema={"name": "branch_phone", "description": "d", "parameters": {"type": "object"}})
    server = MCPListing(monkeypatch)
    async with talk(config_of(provider), agent([own]), [server.tools]) as found:
        await server.list()
        tools = found.session.current_agent.realtime_llm_session.tools
        assert tools.get_function_tool("branch_phone") is own
        assert not [record for record in caplog.records if "did not reach the model" in record.message]
        found.session.update_agent(agent())
        await soon(lambda: offered(found.session) == {"branch_phone"})
        tools = found.session.current_agent.realtime_llm_session.tools
        assert tools.get_function_tool("branch_phone") is not own


async def test_tools_listed_while_an_agent_starts_reach_the_model(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, update = MCPListing(monkeypatch), TurnSession.update_chat_ctx

    async def list_meanwhile(session: TurnSession, chat_ctx: llm.ChatContext) -> None:
        server.may_list.set()
        await soon(lambda: server.tools.tools)
        await update(session, chat_ctx)

    monkeypatch.setattr(TurnSession, "update_chat_ctx", list_meanwhile)
    async with talk(config_of(provider), agent([delivery_date]), [server.tools]) as found:
        await server.list()
        assert offered(found.session) == {"delivery_date", "branch_phone"}


async def test_call_ends_while_an_mcp_server_has_not_answered(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MCPListing(monkeypatch)
    async with talk(config_of(provider), agent(), [server.tools]):
        assert server.tools._connecting is not None
    await soon(server.tools._connecting.cancelled)


async def test_agent_without_audio_prepared_says_a_sentence(provider: Provider) -> None:
    async with talk(config_of(provider), agent()) as found:
        await found.session.say("One moment.").wait_for_playout()
        assert provider.spoken == ["One moment."]
        assert found.messages("assistant") == ["One moment."]


async def test_sentence_is_read_in_the_voice_of_the_model(provider: Provider) -> None:
    config = config_of(provider)
    stages = stages_of(config)
    audio = await phrases.audio("Hello!", "en", stages)
    assert audio is not None and audio.duration == pytest.approx(1.0, abs=0.05)
    assert provider.spoken == ["Hello!"]
    await stages.aclose()


async def test_sentence_with_other_words_is_spoken_by_tts(provider: Provider) -> None:
    provider.set_fault("other_words")
    stages = stages_of(config_of(provider))
    assert await phrases.audio("Hello!", "en", stages) is not None
    assert provider.spoken == ["Hello!", "Goodbye.", "Hello!", "Goodbye.", "Hello!"]
    await stages.aclose()


async def test_sentence_with_other_words_is_not_said_without_tts(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.set_fault("other_words")
    own = {"baseURL": provider.url, "credentialsSecretRef": {"name": "own"}}
    config = config_of(provider, openai=None, realtime=own)
    stages = Stages(config.voice, voice.make_client(config.voice, ""), Keys({"AVATAR_AGENT_LLM_KEY": KEY}))
    assert await phrases.audio("Hello!", "en", stages) is None
    (record,) = [record for record in caplog.records if record.message == "realtime model did not read a sentence"]
    assert record.__dict__["error"] == "NotReadError"
    await stages.aclose()


@pytest.fixture
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    monkeypatch.setattr(budget, "PREPARE_RETRY_SECONDS", ())


@pytest.mark.usefixtures("no_delays")
@pytest.mark.parametrize(
    ("changes", "key", "status", "code", "parameter"),
    [
        pytest.param({}, "wrong", 401, "", "", id="key"),
        pytest.param({"model": "gpt-9"}, KEY, 404, "model_not_found", "model", id="model"),
        pytest.param({"voice": "onix"}, KEY, 400, "invalid_value", "voice", id="voice"),
    ],
)
async def test_trial_finds_wrong_settings(
    provider: Provider, changes: dict[str, str], key: str, status: int, code: str, parameter: str
) -> None:
    config = config_of(provider, realtime=changes)
    stages, log, registered = stages_of(config, key), ProviderLog(), asyncio.Event()
    registered.set()
    await trials.run(config, stages, log, registered)
    failure = log.reports(0.0).llm.failure
    assert failure is not None
    assert (failure.status, failure.code, failure.parameter) == (status, code, parameter)
    await stages.aclose()


@pytest.mark.usefixtures("no_delays")
async def test_trial_of_a_healthy_model_tries_no_other_stage(provider: Provider) -> None:
    config = config_of(provider)
    stages, log, registered = stages_of(config), ProviderLog(), asyncio.Event()
    registered.set()
    await trials.run(config, stages, log, registered)
    assert log.has_succeeded(ProviderStage.LLM)
    assert not log.has_succeeded(ProviderStage.STT)
    assert provider.spoken == ["yes"]
    await stages.aclose()


async def test_large_knowledge_base_is_a_tool(provider: Provider) -> None:
    index = PassageIndex([KNOWLEDGE], "en")
    tool = knowledge_tool(index)
    found = await cast(Any, tool)({"question": "When are you open?"})
    assert "From nine to five." in found
    stages = stages_of(config_of(provider))
    session = voice.make_session(stages, "en", index)
    assert [cast(Any, tool).info.name for tool in session.tools] == [KNOWLEDGE_SEARCH]
    await stages.aclose()


class Scene:
    """A call in conversation with a realtime model, without a room."""

    def __init__(self, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stages = stages_of(config)
        room = cast(Any, FakeRoom())
        room.name, room.metadata = "ornina-c1", ""
        job = SimpleNamespace(id="j1", metadata="", room=SimpleNamespace(name="ornina-c1"))
        context = SimpleNamespace(room=room, job=job, log_context_fields={}, shutdown=lambda _: None)
        self.call = Call(cast(JobContext, context), config, self.stages)
        self.session = self.call._session
        assert isinstance(self.session.llm, TurnModel)
        self.model = self.session.llm
        self.loudspeaker = Loudspeaker()
        self.call._output = self.call._turns._turns._output = ReplyOutput(self.loudspeaker)
        texts = sentences.for_language("en")
        tones = {texts.one_moment: tone(ONE_MOMENT), texts.apology: tone(APOLOGY)}

        async def prepared(text: str, *_: object) -> rtc.AudioFrame:
            return tones[text]

        monkeypatch.setattr(phrases, "audio", prepared)

    async def start(self) -> None:
        self.call._follow_session()
        await self.session.start(await self.call._make_agent())
        await soon(lambda: self.call._turns._apology is not None)

    def say(self) -> None:
        """Let the caller say something, as the session notices it, and the model reply to it."""
        speak_up(self.session)
        (opened,) = self.model._sessions
        opened.push_audio(tone(1, 0.5))
        opened.commit_audio()
        _ = self.session.generate_reply(input_modality="audio")

    async def heard(self, value: int) -> list[int]:
        """Return what was heard once the caller has heard the given phrase."""
        await soon(lambda: value in self.loudspeaker.heard)
        return self.loudspeaker.heard

    async def close(self) -> None:
        self.call._turns.close()
        self.call._cancel_tasks()
        await close(self.session)
        await self.stages.aclose()
        await self.call._agent_audio.close()


def speak_up(session: AgentSession[None]) -> None:
    """Let the session notice that the caller speaks, and stops."""
    session.emit("user_state_changed", UserStateChangedEvent(old_state="listening", new_state="speaking"))
    session.emit("user_state_changed", UserStateChangedEvent(old_state="speaking", new_state="listening"))


@pytest.fixture
async def scene(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    for name in ("ONE_MOMENT", "ONE_MOMENT_AGAIN", "GIVE_UP", "SPEECH_END"):
        monkeypatch.setattr(budget, f"{name}_SECONDS", getattr(budget, f"{name}_SECONDS") * SCALE)
    found = Scene(config_of(provider), monkeypatch)
    await found.start()
    yield found
    await found.close()


def failures() -> float:
    return float(metrics.PROVIDER_ERRORS.labels("llm", "false")._value.get())


async def test_healthy_turn_is_only_the_reply_and_counts_its_tokens(scene: Scene) -> None:
    before = tokens()
    scene.say()
    assert await scene.heard(REPLY) == [REPLY]
    await soon(lambda: tokens() > before)


def tokens() -> float:
    return float(metrics.USAGE.labels(metrics.Usage.LLM_OUTPUT)._value.get())


@pytest.mark.parametrize("kind", ["half_close", "half_stall", "empty"])
async def test_broken_reply_costs_the_turn_and_not_the_call(scene: Scene, provider: Provider, kind: str) -> None:
    provider.set_fault(kind, times=1)
    before = failures()
    scene.say()
    assert (await scene.heard(APOLOGY))[-1] == APOLOGY
    assert failures() == before + 1
    scene.loudspeaker.values.clear()
    await soon(lambda: not scene.call._turns._apologising)
    scene.say()
    assert (await scene.heard(REPLY))[-1] == REPLY
    assert scene.call._outcome is None


@pytest.mark.parametrize("kind", ["401", "500", "stall"])
async def test_lost_connection_is_bridged_with_the_apology_until_the_model_is_back(
    scene: Scene, provider: Provider, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(realtime, "_MAX_BACKOFF_SECONDS", 0.2)
    scene.say()
    await scene.heard(REPLY)
    provider.configure(
        Settings.model_validate(
            {"faults": [{"kind": "half_close", "times": 1}, {"kind": kind, "endpoints": ["realtime"]}]}
        )
    )
    for _ in range(2):
        scene.loudspeaker.values.clear()
        scene.say()
        assert (await scene.heard(APOLOGY))[-1] == APOLOGY
        await soon(lambda: not scene.call._turns._apologising)
    reconnected: list[object] = []
    next(iter(scene.model._sessions)).on("session_reconnected", reconnected.append)
    provider.configure(Settings())
    await soon(lambda: reconnected)
    scene.loudspeaker.values.clear()
    scene.say()
    assert (await scene.heard(REPLY))[-1] == REPLY
    assert scene.call._outcome is None


async def test_speech_that_cannot_be_interrupted_owes_no_reply(scene: Scene) -> None:
    speech = scene.session.say("Hello!", audio=forever(), allow_interruptions=False)
    await soon(lambda: scene.session.current_speech is speech)
    speak_up(scene.session)
    assert not scene.call._turns._turns._budget.owes_reply
    _ = speech.interrupt(force=True)


async def forever() -> AsyncIterator[rtc.AudioFrame]:
    while True:
        yield tone(REPLY)
        await asyncio.sleep(0.02)


def test_error_of_the_api_has_a_status_and_a_parameter_of_the_manifest() -> None:
    from livekit.agents import APIError

    body = SimpleNamespace(
        code="invalid_value", type="invalid_request_error", param="session.audio.output.voice", message="no"
    )
    error = realtime.cause_of(APIError("returned an error", body=body))
    assert isinstance(error, APIStatusError)
    assert (error.status_code, cast(Any, error.body)["param"]) == (400, "voice")
