"""The private parts of the OpenAI plugin that worker.stages relies on: each test fails when the SDK changes one.

tests/unit/worker/test_turns.py runs the stages in a session.
"""

import asyncio
import inspect
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    APIConnectOptions,
    APIStatusError,
    APITimeoutError,
    ChatContext,
    function_tool,
    stt,
)
from livekit.plugins import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.unit.worker.fakes import silence
from worker import retry_after, stages

ONE_ATTEMPT = APIConnectOptions(max_retry=0, timeout=1)


@pytest.fixture
def limited_stt() -> stages.TimeLimitedSTT:
    return stages.TimeLimitedSTT(
        attempt_seconds=0.02, attempts=stages.Attempts(0.0), model="whisper-1", api_key="key", use_realtime=False
    )


async def test_slow_transcription_attempt_times_out(
    limited_stt: stages.TimeLimitedSTT, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    async def stall(*_: object, **__: object) -> stt.SpeechEvent:
        nonlocal attempts
        attempts += 1
        await asyncio.Event().wait()
        raise AssertionError

    errors: list[stt.STTError] = []
    limited_stt.on("error", errors.append)
    monkeypatch.setattr(openai.STT, "_recognize_impl", stall)
    with pytest.raises(APITimeoutError, match=r"no transcription within 0\.02 s"):
        await asyncio.wait_for(limited_stt.recognize(silence(0.1), conn_options=ONE_ATTEMPT), 5)
    assert (attempts, [error.recoverable for error in errors]) == (1, [False])


async def test_transcription_in_time_is_returned(
    limited_stt: stages.TimeLimitedSTT, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT)

    async def answer(*_: object, **options: object) -> stt.SpeechEvent:
        assert options["conn_options"] is ONE_ATTEMPT
        return event

    monkeypatch.setattr(openai.STT, "_recognize_impl", answer)
    assert await limited_stt.recognize(silence(0.1), conn_options=ONE_ATTEMPT) is event


def test_transcription_request_waits_30_seconds_whatever_the_options() -> None:
    """The reason for the limit: remove TimeLimitedSTT when the plugin obeys its connection options."""
    source = inspect.getsource(openai.STT._recognize_impl)
    assert "httpx.Timeout(30, connect=conn_options.timeout)" in source


def test_speech_request_waits_30_seconds_whatever_the_options() -> None:
    """The reason for the limit: remove TimeLimitedTTS when the plugin obeys its connection options."""
    source = inspect.getsource(openai.tts.ChunkedStream._run)
    assert "httpx.Timeout(30, connect=self._conn_options.timeout)" in source
    assert "output_emitter.push(" in source, "each piece of audio extends the limit"


@pytest.mark.parametrize(
    ("asked", "code", "retried"),
    [
        (None, "rate_limit_exceeded", True),
        (4.0, "rate_limit_exceeded", True),
        (4.1, "rate_limit_exceeded", False),
        (None, "insufficient_quota", False),
    ],
    ids=["asks for nothing", "asks for a short wait", "asks for a long wait", "has no quota"],
)
async def test_rate_limit_is_retried_when_a_retry_can_help(asked: float | None, code: str, retried: bool) -> None:
    attempts = stages.Attempts(max_retry_after=4.0)
    headers = {} if asked is None else {"retry-after": str(asked)}
    with pytest.raises(APIStatusError) as caught, attempts.attempt():
        assert attempts.active == 1
        await retry_after.remember(cast(Any, SimpleNamespace(status_code=429, headers=headers)))
        raise APIStatusError("limit", status_code=429, body={"code": code})
    assert caught.value.retryable is retried
    assert attempts.active == 0


async def test_pause_before_a_retry_is_the_one_that_was_asked_for() -> None:
    options = stages.PatientOptions(max_retry=1, retry_interval=0.3, timeout=1.0)
    await retry_after.remember(cast(Any, SimpleNamespace(status_code=429, headers={"retry-after": "2.5"})))
    assert options._interval_for_retry(0) == 2.5
    retry_after.forget()
    assert options._interval_for_retry(0) == APIConnectOptions()._interval_for_retry(0)


def reply_llm(answer: Callable[[httpx2.Request], httpx2.Response], effort: str = "") -> stages.ReplyLLM:
    """Return the stage with a provider that answers within this process."""
    transport = httpx2.MockTransport(answer)
    client = AsyncOpenAI(
        api_key="key", base_url="http://openai.test/v1", http_client=DefaultAsyncHttpxClient(transport=transport)
    )
    return stages.ReplyLLM(
        max_tokens=4400,
        effort=effort,
        attempt_seconds=4.0,
        attempts=stages.Attempts(0.0),
        model="openai/gpt-5-mini",
        client=client,
    )


def question() -> ChatContext:
    context = ChatContext.empty()
    context.add_message(role="user", content="Hello?")
    return context


@pytest.mark.parametrize("effort", ["minimal", ""])
async def test_request_carries_the_limits_of_a_reply(effort: str) -> None:
    bodies: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=b"data: [DONE]\n\n")

    llm = reply_llm(answer, effort)
    with pytest.raises(stages.EmptyReply) as caught:
        async with llm.chat(chat_ctx=question(), conn_options=DEFAULT_API_CONNECT_OPTIONS) as stream:
            async for _ in stream:
                pass
    assert (caught.value.finish_reason, caught.value.max_tokens) == ("", 4400)
    (body,) = bodies
    assert b'"max_completion_tokens":4400' in body
    assert (b'"reasoning_effort":"minimal"' in body) is bool(effort)
    await llm._client.close()


@function_tool
async def opening_hours(day: str) -> str:
    """Return the opening hours.

    Args:
        day: The day of the week.
    """
    return day


async def test_reply_that_only_calls_a_tool_is_no_error() -> None:
    bodies: list[bytes] = []
    function = {"name": "opening_hours", "arguments": '{"day": "Monday"}'}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    deltas = [({"role": "assistant", "tool_calls": [call]}, None), ({}, "tool_calls")]
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    lines = [chunk | {"choices": [{"index": 0, "delta": part, "finish_reason": end}]} for part, end in deltas]
    content = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=content)

    llm = reply_llm(answer)
    response = await llm.chat(chat_ctx=question(), tools=[opening_hours], tool_choice="required").collect()
    assert [(one.name, one.arguments) for one in response.tool_calls] == [("opening_hours", function["arguments"])]
    sent = json.loads(bodies[0])
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["opening_hours"]
    assert (sent["tool_choice"], sent["max_completion_tokens"]) == ("required", 4400)
    await llm._client.close()


def test_effort_is_that_of_the_sdk() -> None:
    assert stages.lowest_reasoning_effort("gpt-5-mini") == "minimal"
    assert stages.lowest_reasoning_effort("unknown") == ""
