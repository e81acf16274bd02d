"""Fallbacks: two simulated providers at two addresses, the first of which accepts requests and never answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.agents import APIError, APIStatusError, ChatContext, llm, stt, tts

from agentspec import VoiceSpec
from tests.unit.worker.conversation import tone
from tests.unit.worker.fakes import silence
from worker import provider_availability
from worker.call import budget, fallbacks, metrics, voice
from worker.provider_availability import Availability, ProviderAvailability
from worker.reports import SOCKET_VARIABLE

PATHS = {"stt": "/v1/audio/transcriptions", "llm": "/v1/chat/completions", "tts": "/v1/audio/speech"}


class Provider:
    """Answers like OpenAI; while `stalls`, it answers nothing."""

    def __init__(self, *, stalls: bool) -> None:
        self.stalls = stalls
        self.status = 200
        self.requests: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        await request.read()
        if self.stalls:
            await asyncio.Event().wait()
        if self.status != 200:
            return web.json_response({"error": {"code": "insufficient_quota", "message": "no"}}, status=self.status)
        if request.path == PATHS["stt"]:
            return web.json_response({"text": "Good morning."})
        if request.path == PATHS["tts"]:
            return web.Response(body=bytes(tone(0.3).data))
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        parts = [({"role": "assistant", "content": "Yes."}, None), ({}, "stop")]
        lines = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in parts]
        events = "".join(f"data: {json.dumps(line)}\n\n" for line in lines)
        return web.Response(text=f"{events}data: [DONE]\n\n", content_type="text/event-stream")


@pytest.fixture
async def providers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Provider, Provider]]:
    monkeypatch.setattr(budget, "FALLBACK_SECONDS", 0.2)
    monkeypatch.setattr(budget, "STT_FALLBACK_SECONDS", 0.2)
    found = Provider(stalls=True), Provider(stalls=False)
    async with AsyncExitStack() as servers:
        for provider in found:
            app = web.Application()
            app.router.add_post("/v1/{path:.*}", provider.answer)
            server = await servers.enter_async_context(TestServer(app, handler_cancellation=True))
            provider.url = str(server.make_url("/v1"))
        yield found


@pytest.fixture
async def stages(providers: tuple[Provider, Provider]) -> AsyncIterator[voice.Stages]:
    first, second = providers
    stage = {"baseURL": first.url, "fallbacks": [{"baseURL": second.url}]}
    declared = VoiceSpec.model_validate(dict.fromkeys(PATHS, stage))
    made = voice.Stages(declared, voice.make_client(declared, ""))
    yield made
    await made.aclose()


async def transcribe(stage: stt.STT[Any]) -> str:
    event = await stage.recognize(silence(0.5), conn_options=voice.STT_CONNECTION)
    return event.alternatives[0].text if event.alternatives else ""


async def complete(stage: llm.LLM[Any]) -> str:
    context = ChatContext.empty()
    context.add_message(role="user", content="Are you there?")
    return (await stage.chat(chat_ctx=context, conn_options=voice.LLM_CONNECTION).collect()).text


async def synthesise(stage: tts.TTS[Any]) -> str:
    frame = await stage.synthesize("Hello.", conn_options=voice.TTS_CONNECTION).collect()
    return "audio" if frame.duration >= 0.3 else ""


REQUESTS: dict[str, tuple[Callable[[Any], Awaitable[str]], str]] = {
    "stt": (transcribe, "Good morning."),
    "llm": (complete, "Yes."),
    "tts": (synthesise, "audio"),
}


def make(stages: voice.Stages, stage: str) -> Any:  # noqa: ANN401 - a stage of any kind
    return stages.make_stt("en") if stage == "stt" else stages.make_llm() if stage == "llm" else stages.make_tts("en")


async def send(stages: voice.Stages, stage: str) -> str:
    """Send one request as a call does; returns what a caller gets."""
    async with make(stages, stage) as made:
        return await asyncio.wait_for(REQUESTS[stage][0](made), 10)


@pytest.mark.parametrize("stage", REQUESTS)
async def test_stalled_first_provider_is_replaced(
    stages: voice.Stages, providers: tuple[Provider, Provider], stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[ProviderAvailability] = []
    stages.on_availability = found.append
    assert await send(stages, stage) == REQUESTS[stage][1]
    first, second = providers
    assert first.requests[0] == PATHS[stage] and second.requests == [PATHS[stage]]
    assert [(one.stage, one.position, one.available) for one in found] == [(stage, 0, False)]
    (line,) = [record.__dict__ for record in caplog.records if record.message.startswith("provider unavailable")]
    assert (line["stage"], line["url"]) == (stage, first.url)


@pytest.mark.parametrize("stage", REQUESTS)
async def test_later_calls_ask_the_stalled_provider_last(
    stages: voice.Stages,
    providers: tuple[Provider, Provider],
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, str(tmp_path / "reports.sock"))
    stages.on_availability = Availability().record
    await send(stages, stage)
    first, _ = providers
    first.requests.clear()
    assert await send(stages, stage) == REQUESTS[stage][1]
    assert first.requests == [], "this call did not wait for it"
    monkeypatch.setattr(provider_availability, "RECHECK_SECONDS", -1.0)
    assert await send(stages, stage) == REQUESTS[stage][1]
    assert first.requests, "after a while, a call asks it first again"


async def test_recovered_provider_is_asked_first_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, str(tmp_path / "reports.sock"))
    known = Availability()
    for available, expected in ((False, {1}), (True, set())):
        known.record(ProviderAvailability(stage="llm", position=1, available=available, at=4e9))
        assert provider_availability.unavailable("llm") == expected
        assert provider_availability.unavailable("stt") == frozenset()


@pytest.mark.parametrize(("stage", "kind"), [("stt", stt.STTError), ("llm", llm.LLMError), ("tts", tts.TTSError)])
async def test_error_of_all_providers_is_the_last_providers_own(
    stages: voice.Stages, providers: tuple[Provider, Provider], stage: str, kind: type[Any]
) -> None:
    for provider in providers:
        provider.stalls, provider.status = False, 429
    made, errors = make(stages, stage), list[Any]()
    made.on("error", errors.append)
    if stage == "stt":  # a failed transcription costs the turn only
        assert await transcribe(made) == ""
    else:
        with pytest.raises(APIError):
            await REQUESTS[stage][0](made)
    last = errors[-1]
    assert isinstance(last, kind) and isinstance(last.error, APIStatusError)
    assert last.recoverable is False and last.error.status_code == 429


async def test_fallback_in_a_call_is_counted_and_reported(
    stages: voice.Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[ProviderAvailability] = []
    monkeypatch.setattr(provider_availability, "report", sent.append)
    before = metrics.PROVIDER_FALLBACKS.labels("llm")._value.get()
    fallbacks.follow(stages)
    await send(stages, "llm")
    assert metrics.PROVIDER_FALLBACKS.labels("llm")._value.get() == before + 1
    assert [one.available for one in sent] == [False]
