"""The limits of a call for stages of unknown providers."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import APIConnectOptions, APIError, APITimeoutError, ChatContext, llm, stt, tts

from tests.unit.worker.fakes import silence
from worker.call.providers.limited import LimitedLLM, LimitedSTT, LimitedTTS
from worker.stages import Attempts, EmptyReply

ONCE = APIConnectOptions(max_retry=0, timeout=10.0)
LIMIT = 0.05
RATE = 24_000
"""Of `silence`, in Hz."""


class Source:
    """Yields items as an SDK's stream does; None: nothing comes any more."""

    def __init__(self, *items: object) -> None:
        self._items = list(items)
        self.pushed: list[object] = []
        self.is_closed = False

    async def __aenter__(self) -> "Source":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_closed = True

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._each()

    async def _each(self) -> AsyncIterator[Any]:
        for item in self._items:
            if item is None:
                await asyncio.Event().wait()
            yield item

    def push_frame(self, frame: object) -> None:
        self.pushed.append(frame)

    def end_input(self) -> None:
        self.pushed.append("end")


def attempts() -> Attempts:
    return Attempts(0.0)


def word(text: str) -> llm.ChatChunk:
    return llm.ChatChunk(id="c", delta=llm.ChoiceDelta(role="assistant", content=text))


def model(*chunks: object) -> tuple[LimitedLLM, list[dict[str, Any]]]:
    """Return a model that answers with chunks, and the options of its requests."""
    requests: list[dict[str, Any]] = []

    def chat(**options: Any) -> Source:
        requests.append(options)
        return Source(*chunks)

    inner = cast(Any, SimpleNamespace(chat=chat, model="m", provider="p"))
    return LimitedLLM(inner, attempt_seconds=LIMIT, attempts=attempts()), requests


async def test_reply_and_its_options_pass_through() -> None:
    stage, requests = model(word("Yes."), word(" No."))
    reply = stage.chat(chat_ctx=ChatContext.empty(), conn_options=ONCE, tool_choice="required", tools=[])
    assert (await reply.collect()).text == "Yes. No."
    assert requests[0]["tool_choice"] == "required" and requests[0]["tools"] == []
    assert (requests[0]["conn_options"].max_retry, requests[0]["conn_options"].timeout) == (0, LIMIT)
    assert (stage.model, stage.provider, stage.attempts.active) == ("m", "p", 0)


@pytest.mark.parametrize("chunks", [(None,), (word("Y"), None)], ids=["before the first token", "after one"])
async def test_stalled_model_times_out(chunks: tuple[object, ...]) -> None:
    stage, _ = model(*chunks)
    failures: list[llm.LLMError] = []
    stage.on("error", failures.append)
    with pytest.raises(APITimeoutError, match="no token for"):
        await stage.chat(chat_ctx=ChatContext.empty(), conn_options=ONCE).collect()
    assert [failure.recoverable for failure in failures] == [False]
    assert stage.attempts.active == 0


async def test_empty_reply_of_a_plugin_is_an_error() -> None:
    stage, _ = model()
    with pytest.raises(EmptyReply):
        await stage.chat(chat_ctx=ChatContext.empty(), conn_options=ONCE).collect()


async def test_tool_call_of_a_plugin_is_a_reply() -> None:
    call = llm.FunctionToolCall(name="hours", arguments="{}", call_id="c1")
    chunk = llm.ChatChunk(id="c", delta=llm.ChoiceDelta(role="assistant", tool_calls=[call]))
    stage, _ = model(chunk)
    response = await stage.chat(chat_ctx=ChatContext.empty(), conn_options=ONCE).collect()
    assert [one.name for one in response.tool_calls] == ["hours"]


def speech(*parts: object) -> LimitedTTS:
    inner = SimpleNamespace(
        sample_rate=RATE, num_channels=1, model="m", provider="p", synthesize=lambda *_, **__: Source(*parts)
    )
    return LimitedTTS(cast(Any, inner), gap_seconds=LIMIT, attempts=attempts())


def audio(seconds: float) -> tts.SynthesizedAudio:
    return tts.SynthesizedAudio(frame=silence(seconds), request_id="r")


async def test_speech_of_a_plugin_passes_through() -> None:
    frame = await speech(audio(0.3), audio(0.2)).synthesize("Hello.", conn_options=ONCE).collect()
    assert frame.duration == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("parts", [(None,), (audio(0.3), None)], ids=["before the first sample", "after some"])
async def test_stalled_speech_times_out(parts: tuple[object, ...]) -> None:
    with pytest.raises(APITimeoutError, match="no audio for"):
        await speech(*parts).synthesize("Hello.", conn_options=ONCE).collect()


def final(text: str) -> stt.SpeechEvent:
    alternatives = [stt.SpeechData(language=cast(Any, "en"), text=text)]
    return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=alternatives)


def recogniser(*events: object, offline: bool) -> tuple[LimitedSTT, Source]:
    source = Source(*events)

    async def recognize(*_: object, **__: object) -> stt.SpeechEvent:
        async for event in source:
            return cast(stt.SpeechEvent, event)
        raise APIError("none")

    inner = SimpleNamespace(
        capabilities=stt.STTCapabilities(streaming=True, interim_results=True, offline_recognize=offline),
        stream=lambda **_: source,
        recognize=recognize,
        model="m",
        provider="p",
    )
    return LimitedSTT(cast(Any, inner), attempt_seconds=LIMIT, attempts=attempts()), source


async def test_utterance_is_transcribed_by_a_request() -> None:
    stage, source = recogniser(final("Hello."), offline=True)
    event = await stage.recognize(silence(0.1), conn_options=ONCE)
    assert event.alternatives[0].text == "Hello." and source.pushed == []


async def test_utterance_gets_a_stream_from_a_plugin_that_only_streams() -> None:
    stage, source = recogniser(final("Hello."), final("World."), offline=False)
    utterance = [silence(0.1), silence(0.1)]
    event = await stage.recognize(utterance, conn_options=ONCE)
    assert event.alternatives[0].text == "Hello. World."
    assert source.pushed == [*utterance, "end"] and source.is_closed


@pytest.mark.parametrize("offline", [True, False], ids=["request", "stream"])
async def test_stalled_transcription_times_out(offline: bool) -> None:
    stage, _ = recogniser(None, offline=offline)
    with pytest.raises(APITimeoutError, match="no transcription within"):
        await stage.recognize(silence(0.1), conn_options=ONCE)
