"""The simulated OpenAI over HTTP, in this process: keys, faults, counters, and formats of answers."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from devkit.providers import synthesis
from devkit.providers.openai.app import make_app
from devkit.providers.recognition import RecognitionError, Transcript
from devkit.providers.simulator import Settings

KEY = "sk-simulated-0123456789"
AUTH = {"Authorization": f"Bearer {KEY}"}
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello?"}]}


class Deaf:
    """Replaces the model; the end-to-end tests use the real one."""

    languages = frozenset({"ar", "en"})

    def transcribe_file(self, content: bytes, language: str | None, prompt: str | None) -> Transcript:
        if not content.startswith(b"RIFF"):
            raise RecognitionError("no recording")
        return Transcript(f"{len(content)} bytes", language or "en", 2.0)


Client = TestClient[Any, Any]


@asynccontextmanager
async def client(settings: str = "{}") -> AsyncIterator[Client]:
    app = make_app(KEY, Settings.model_validate_json(settings), recogniser=Deaf)  # type: ignore[arg-type]
    async with TestClient(TestServer(app, handler_cancellation=True)) as session:
        yield session


async def simulator(session: Client) -> dict[str, Any]:
    document: dict[str, Any] = await (await session.get("/_simulator")).json()
    return document


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, None), ({"Authorization": "Bearer sk-wrong-key-987654"}, "invalid_api_key"), ({"x-api-key": KEY}, None)],
)
async def test_invalid_key_is_rejected_with_openais_body(headers: dict[str, str], code: str | None) -> None:
    async with client() as session:
        for method, path in [("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/v1/audio/speech")]:
            answer = await session.request(method, path, headers=headers, json=CHAT if method == "POST" else None)
            error = (await answer.json())["error"]
            assert (answer.status, error["type"], error["code"]) == (401, "invalid_request_error", code)
            assert "wrong-key" not in error["message"]


async def test_simulator_shows_the_messages_of_the_last_conversation() -> None:
    instructions = {"role": "system", "content": "You are Ornina."}
    conversation = CHAT | {"messages": [instructions, *CHAT["messages"]]}
    async with client() as session:
        assert (await simulator(session))["last_chat"] == []
        await session.post("/v1/chat/completions", headers=AUTH, json=conversation)
        await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)
        assert (await simulator(session))["last_chat"] == conversation["messages"]


async def test_health_and_settings_need_no_key() -> None:
    async with client() as session:
        assert (await session.get("/healthz")).status == 200
        assert (await session.get("/_simulator")).status == 200


async def test_models_are_listed_and_described() -> None:
    async with client() as session:
        listed = await (await session.get("/v1/models", headers=AUTH)).json()
        assert {"whisper-1", "gpt-4o-mini", "tts-1"} <= {model["id"] for model in listed["data"]}
        assert (await (await session.get("/v1/models/tts-1", headers=AUTH)).json())["id"] == "tts-1"
        assert (await session.get("/v1/models/gpt-17", headers=AUTH)).status == 404


async def test_rate_limit_has_retry_after_and_ends() -> None:
    async with client('{"faults": [{"kind": "429", "times": 1, "retry_after_seconds": 7}]}') as session:
        refused = await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "7")
        assert (await refused.json())["error"]["code"] == "rate_limit_exceeded"
        assert (await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)).status == 200


@pytest.mark.parametrize("kind", ["401", "500"])
async def test_faults_are_set_and_removed_at_run_time(kind: str) -> None:
    async with client() as session:
        fault = {"kind": kind, "endpoints": ["chat"]}
        assert (await session.put("/_simulator", json={"faults": [fault]})).status == 200
        assert (await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)).status == int(kind)
        assert (await session.get("/v1/models", headers=AUTH)).status == 200
        assert (await session.put("/_simulator", json={})).status == 200
        assert (await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)).status == 200


@pytest.mark.parametrize(
    ("kind", "status", "code"), [("quota", 429, "insufficient_quota"), ("403", 403, "model_not_found")]
)
async def test_account_faults_have_the_codes_of_openai(kind: str, status: int, code: str) -> None:
    async with client(json.dumps({"faults": [{"kind": kind, "endpoints": ["chat"]}]})) as session:
        refused = await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)
        assert (refused.status, (await refused.json())["error"]["code"]) == (status, code)
        assert "Retry-After" not in refused.headers, "waiting does not help"
        assert (await session.get("/v1/models/gpt-4o-mini", headers=AUTH)).status == 200, "the key's probe succeeds"


async def test_stalled_request_gets_no_answer() -> None:
    async with client('{"faults": [{"kind": "stall", "times": 1}]}') as session:
        with pytest.raises(asyncio.TimeoutError):
            patience = aiohttp.ClientTimeout(total=0.3)
            await session.post("/v1/chat/completions", headers=AUTH, json=CHAT, timeout=patience)
        assert (await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)).status == 200
        assert (await simulator(session))["requests"]["chat"] == {"total": 2, "200": 1, "499": 1}


async def test_latency_delays_the_answer() -> None:
    async with client('{"latency_ms": 200}') as session:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await session.get("/v1/models", headers=AUTH)
        assert loop.time() - started >= 0.2


async def test_invalid_settings_get_400_and_change_nothing() -> None:
    async with client('{"latency_ms": 1}') as session:
        answer = await session.put("/_simulator", json={"faults": [{"kind": "never_joins"}]})
        assert answer.status == 400
        assert "openai has no fault 'never_joins'" in (await answer.json())["error"]
        assert (await session.put("/_simulator", data=b"{")).status == 400
        assert (await simulator(session))["settings"] == {"latency_ms": 1, "faults": []}


async def test_requests_are_counted_by_endpoint_and_status() -> None:
    async with client('{"faults": [{"kind": "500", "endpoints": ["speech"]}]}') as session:
        await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)
        await session.post("/v1/chat/completions", headers=AUTH, data=b"{")
        await session.post("/v1/chat/completions", json=CHAT)
        await session.post("/v1/audio/speech", headers=AUTH, json={})
        assert (await simulator(session))["requests"] == {
            "chat": {"total": 3, "200": 1, "400": 1, "401": 1},
            "models": {"total": 0},
            "realtime": {"total": 0},
            "speech": {"total": 1, "500": 1},
            "transcriptions": {"total": 0},
        }


async def test_streamed_answer_is_server_sent_events() -> None:
    async with client() as session:
        answer = await session.post("/v1/chat/completions", headers=AUTH, json=CHAT | {"stream": True})
        assert answer.content_type == "text/event-stream"
        events = (await answer.text()).strip().split("\n\n")
        assert events[-1] == "data: [DONE]"
        assert json.loads(events[0].removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"


async def test_recording_is_transcribed() -> None:
    async with client() as session:
        form = aiohttp.FormData({"model": "whisper-1", "language": "ar", "response_format": "verbose_json"})
        form.add_field("file", b"RIFF1234", filename="file.wav", content_type="audio/wav")
        answer = await (await session.post("/v1/audio/transcriptions", headers=AUTH, data=form)).json()
        assert (answer["text"], answer["language"]) == ("8 bytes", "arabic")


async def test_upload_that_is_no_recording_is_rejected() -> None:
    async with client() as session:
        form = aiohttp.FormData({"model": "whisper-1"})
        form.add_field("file", b"nonsense", filename="file.wav", content_type="audio/wav")
        answer = await session.post("/v1/audio/transcriptions", headers=AUTH, data=form)
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "file")
        assert (await session.post("/v1/audio/transcriptions", headers=AUTH, json={})).status == 400


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float]]:
    said: list[tuple[str, str, float]] = []

    def speak(text: str, voice: str, speed: float) -> synthesis.Samples:
        said.append((text, voice, speed))
        return np.full(3000, len(said), dtype=np.int16)

    monkeypatch.setattr(synthesis, "speak", speak)
    return said


async def test_speech_is_streamed_sentence_by_sentence(spoken: list[tuple[str, str, float]]) -> None:
    async with client() as session:
        body = {"model": "tts-1", "voice": "nova", "input": "One. Two.", "response_format": "pcm", "speed": 1.5}
        answer = await session.post("/v1/audio/speech", headers=AUTH, json=body)
        assert (answer.content_type, answer.headers["Transfer-Encoding"]) == ("audio/pcm", "chunked")
        assert await answer.read() == np.repeat(np.array([1, 2], dtype="<i2"), 3000).tobytes()
        assert spoken == [("One.", "nova", 1.5), ("Two.", "nova", 1.5)]


async def test_failed_speech_is_a_500_with_openais_body(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise synthesis.SynthesisError("espeak-ng is not installed")

    monkeypatch.setattr(synthesis, "speak", fail)
    async with client() as session:
        body = {"model": "tts-1", "voice": "nova", "input": "One."}
        answer = await session.post("/v1/audio/speech", headers=AUTH, json=body)
        assert (answer.status, (await answer.json())["error"]["type"]) == (500, "server_error")
        assert (await simulator(session))["requests"]["speech"] == {"total": 1, "500": 1}


async def test_speech_as_events_contains_the_same_audio(spoken: list[tuple[str, str, float]]) -> None:
    async with client() as session:
        body = {"model": "gpt-4o-mini-tts", "voice": "ash", "input": "One.", "response_format": "pcm"}
        answer = await session.post("/v1/audio/speech", headers=AUTH, json=body | {"stream_format": "sse"})
        events = [json.loads(e.removeprefix("data: ")) for e in (await answer.text()).strip().split("\n\n")]
        audio = b"".join(base64.b64decode(e["audio"]) for e in events if e["type"] == "speech.audio.delta")
        assert audio == np.full(3000, 1, dtype="<i2").tobytes()
        assert events[-1]["type"] == "speech.audio.done"
        assert len(spoken) == 1


async def test_slow_answer_comes_after_its_delay() -> None:
    async with client('{"faults": [{"kind": "slow", "times": 1, "delay_ms": 300}]}') as session:
        with pytest.raises(asyncio.TimeoutError):
            patience = aiohttp.ClientTimeout(total=0.1)
            await session.post("/v1/chat/completions", headers=AUTH, json=CHAT, timeout=patience)
    async with client('{"faults": [{"kind": "slow", "delay_ms": 1}]}') as session:
        assert (await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)).status == 200


STREAMED = CHAT | {"stream": True}


async def test_answer_that_stalls_half_way_sends_only_its_beginning() -> None:
    async with client('{"faults": [{"kind": "half_stall", "endpoints": ["chat"]}]}') as session:
        answer = await session.post("/v1/chat/completions", headers=AUTH, json=STREAMED)
        assert answer.status == 200 and await answer.content.readline()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(answer.read(), 0.3)


@pytest.mark.parametrize("endpoint", ["chat", "transcriptions"])
async def test_answer_that_is_cut_off_is_no_whole_answer(endpoint: str) -> None:
    async with client(json.dumps({"faults": [{"kind": "half_close", "endpoints": [endpoint]}]})) as session:
        if endpoint == "chat":
            answer = await session.post("/v1/chat/completions", headers=AUTH, json=STREAMED)
        else:
            form = aiohttp.FormData({"model": "whisper-1"})
            form.add_field("file", b"RIFF", filename="file.wav", content_type="audio/wav")
            answer = await session.post("/v1/audio/transcriptions", headers=AUTH, data=form)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_empty_reply_spent_its_tokens() -> None:
    async with client('{"faults": [{"kind": "empty", "endpoints": ["chat"]}]}') as session:
        (choice,) = (await (await session.post("/v1/chat/completions", headers=AUTH, json=CHAT)).json())["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")


async def test_empty_speech_has_no_audio() -> None:
    async with client('{"faults": [{"kind": "empty", "endpoints": ["speech"]}]}') as session:
        speech = {"model": "tts-1", "input": "Hello.", "voice": "alloy", "response_format": "pcm"}
        answer = await session.post("/v1/audio/speech", headers=AUTH, json=speech)
        assert (answer.status, await answer.read()) == (200, b"")
