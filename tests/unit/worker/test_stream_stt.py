"""A streaming stt in a session: its text is the turn, and a stream that stalls or ends costs no turn."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectionError,
    APIConnectOptions,
    NotGivenOr,
    stt,
    utils,
)

from agentspec.wire import WorkerConfig
from tests.unit.worker.conversation import Conversation, conversation, speech
from tests.waiting import soon
from worker.call import budget
from worker.call.providers.limited import LimitedSTT
from worker.call.speech_detection import SpeechDetector
from worker.call.stream_stt import StreamSTT
from worker.stages import Attempts

HEARD = "What are your opening hours?"


class FakePlugin(stt.STT[Any]):
    """Streams, and transcribes single utterances as well."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self.answers = True
        """Whether streams return text; those opened while it is False never do."""
        self.recognises = True
        """Whether single utterances have text."""
        self.fails = False
        """Whether single utterances cannot be transcribed."""
        self.streams: list[FakeStream] = []
        self.utterances = 0

    async def _recognize_impl(
        self, buffer: utils.AudioBuffer, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        self.utterances += 1
        if self.fails:
            raise APIConnectionError("no")
        return final(HEARD if self.recognises else "")

    def stream(
        self, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> stt.RecognizeStream:
        made = FakeStream(self, conn_options=conn_options)
        self.streams.append(made)
        return made


class FakeStream(stt.RecognizeStream):
    """Returns the text as soon as half a second of sound has arrived."""

    def __init__(self, plugin: FakePlugin, *, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=plugin, conn_options=conn_options)
        self._answers = plugin.answers
        self.breaks = asyncio.Event()

    async def _run(self) -> None:
        listening = asyncio.create_task(self._listen())
        breaking = asyncio.create_task(self.breaks.wait())
        try:
            await asyncio.wait({listening, breaking}, return_when=asyncio.FIRST_COMPLETED)
            if self.breaks.is_set():
                raise APIConnectionError("the connection is lost")
        finally:
            await utils.aio.cancel_and_wait(listening, breaking)

    async def _listen(self) -> None:
        loud = 0.0
        async for frame in self._input_ch:
            if isinstance(frame, self._FlushSentinel) or not any(frame.data):
                continue
            loud += frame.duration
            if loud >= 0.5 and self._answers:
                loud = -60.0  # one utterance
                self._event_ch.send_nowait(final(HEARD))


def final(text: str) -> stt.SpeechEvent:
    return stt.SpeechEvent(
        type=stt.SpeechEventType.FINAL_TRANSCRIPT,
        alternatives=[stt.SpeechData(language="en", text=text)],  # type: ignore[arg-type] # a language code is text
    )


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> FakePlugin:
    monkeypatch.setattr(budget, "STREAM_TEXT_SECONDS", 0.5)
    return FakePlugin()


@pytest.fixture
async def talk(plugin: FakePlugin, config: WorkerConfig) -> AsyncIterator[Conversation]:
    single = LimitedSTT(plugin, attempt_seconds=2.0, attempts=Attempts(0.0))
    stage = StreamSTT(plugin, single, SpeechDetector())
    async with conversation(config, before_start=lambda session: setattr(session, "_stt", stage)) as talk:
        talk.stage, talk.reported = stage, []  # type: ignore[attr-defined]
        stage.on_started = lambda: talk.reported.append("started")  # type: ignore[attr-defined]
        stage.on_finished = lambda text: talk.reported.append(text)  # type: ignore[attr-defined]
        await soon(lambda: plugin.streams)
        yield talk


def reported(talk: Conversation) -> list[object]:
    return talk.reported  # type: ignore[attr-defined, no-any-return]


async def say_something(talk: Conversation) -> None:
    talk.microphone.play(speech(1.2))
    await talk.microphone.played()


async def test_text_of_the_stream_is_answered(talk: Conversation, plugin: FakePlugin) -> None:
    await say_something(talk)
    await talk.until(lambda: talk.messages("assistant"), "a reply")
    assert talk.messages("user") == [HEARD]
    assert reported(talk) == ["started", True]
    assert plugin.utterances == 0 and len(plugin.streams) == 1


async def test_stalled_stream_costs_no_turn(config: WorkerConfig, plugin: FakePlugin, talk: Conversation) -> None:
    plugin.streams[0]._answers = False
    await say_something(talk)
    await talk.until(lambda: talk.messages("assistant"), "a reply")
    assert talk.messages("user") == [HEARD]
    assert plugin.utterances == 1
    await soon(lambda: len(plugin.streams) == 2)
    assert reported(talk) == ["started", True]


async def test_noise_is_no_turn(plugin: FakePlugin, talk: Conversation) -> None:
    plugin.streams[0]._answers, plugin.recognises = False, False
    await say_something(talk)
    await talk.until(lambda: reported(talk) == ["started", False], "noise")
    assert talk.messages("user") == [] and len(plugin.streams) == 1


async def test_lost_stream_is_opened_again(plugin: FakePlugin, talk: Conversation) -> None:
    errors: list[Any] = []
    talk.session.on("error", lambda event: errors.append(event.error))
    plugin.streams[0].breaks.set()
    await soon(lambda: len(plugin.streams) == 2)
    await say_something(talk)
    await talk.until(lambda: talk.messages("assistant"), "a reply")
    assert [error.recoverable for error in errors] == [True], "no turn failed"


async def test_provider_that_fails_costs_the_turn_only(plugin: FakePlugin, talk: Conversation) -> None:
    errors: list[Any] = []
    talk.session.on("error", lambda event: errors.append(event.error))
    plugin.streams[0]._answers, plugin.fails = False, True
    await say_something(talk)
    await talk.until(lambda: reported(talk) == ["started", False], "the failure")
    assert any(not error.recoverable for error in errors)
    plugin.streams[0]._answers, plugin.fails = True, False
    await say_something(talk)
    await talk.until(lambda: talk.messages("assistant"), "a reply")
