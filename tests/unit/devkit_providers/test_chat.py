"""Chat completions: requests, answers, and the framing of server-sent events."""

import json
from typing import Any

import pytest
from aiohttp import web

from devkit.providers.openai import chat

SYSTEM = 'Answer from this.\n<knowledge name="k">\n## When are you open?\nWe open at nine, عند التاسعة.\n</knowledge>'


def request(**changes: object) -> chat.ChatRequest:
    document: dict[str, object] = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "When are you open?"}],
        "stream": True,
        "tools": [{"type": "function", "function": {"name": "hang_up", "parameters": {}}}],
        "temperature": 0.2,
    }
    return chat.parse(document | changes)


def parsed(events: bytes) -> list[dict[str, Any]]:
    frames = events.decode().split("\n\n")
    assert frames[-1] == ""
    assert frames[-2] == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def stream(wanted: chat.ChatRequest, text: str) -> list[dict[str, Any]]:
    return parsed(b"".join(chat.events(wanted, text, "chatcmpl-1", 1_700_000_000)))


def test_answer_is_streamed_word_by_word() -> None:
    chunks = stream(request(), "We open at nine, عند التاسعة.\nBye.")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert len(deltas) == 1 + 7 + 1
    assert "".join(delta.get("content", "") for delta in deltas) == "We open at nine, عند التاسعة.\nBye."


def test_only_the_last_choice_has_a_finish_reason() -> None:
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in stream(request(), "one two")]
    assert reasons == [None, None, None, "stop"]


def test_every_chunk_has_the_same_identity() -> None:
    chunks = stream(request(), "one two")
    assert {(c["id"], c["object"], c["model"]) for c in chunks} == {
        ("chatcmpl-1", "chat.completion.chunk", "gpt-4o-mini")
    }


def test_usage_is_last_and_only_on_request() -> None:
    assert all("usage" not in chunk for chunk in stream(request(), "one"))
    *before, last = stream(request(stream_options={"include_usage": True}), "one two three")
    assert all(chunk["usage"] is None for chunk in before)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"] > 0


def test_answer_without_stream_is_one_object() -> None:
    document = chat.completion(request(stream=False), "Hello.", "chatcmpl-1", 1)
    assert document["object"] == "chat.completion"
    assert document["choices"][0]["message"]["content"] == "Hello."
    assert document["choices"][0]["finish_reason"] == "stop"


def test_answer_comes_from_the_knowledge() -> None:
    assert chat.answer(request().messages) == "We open at nine, عند التاسعة."


def test_content_in_parts_is_parsed() -> None:
    parts = [{"type": "text", "text": "When are"}, {"type": "image_url"}, {"type": "text", "text": "you open?"}]
    wanted = request(messages=[{"role": "developer", "content": SYSTEM}, {"role": "user", "content": parts}])
    assert chat.answer(wanted.messages) == "We open at nine, عند التاسعة."


def test_last_question_is_answered() -> None:
    messages = [*request().messages, ("assistant", "At nine."), ("user", "Will it rain tomorrow?")]
    assert "do not know" in chat.answer(messages)


@pytest.mark.parametrize(
    "instructions",
    [
        "Greet the caller: <greeting>أهلا بك</greeting>",
        "Greet the caller with “أهلا بك”.",
        "Be kind.\nGreeting: أهلا بك",
        "رحّب بالمتصل وقل «أهلا بك»",
    ],
)
def test_requested_greeting_is_the_answer_without_a_question(instructions: str) -> None:
    assert chat.answer([("system", SYSTEM), ("system", instructions)]) == "أهلا بك"


def test_answer_without_question_and_greeting_admits_it() -> None:
    assert "do not know" in chat.answer([("system", "You are kind.")])


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"model": "gpt-17"}, 404, "model_not_found"),
        ({"model": "tts-1"}, 400, "unsupported_model"),
        ({"model": None}, 400, None),
        ({"messages": []}, 400, "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_value"),
        ({"stream": False, "stream_options": {"include_usage": True}}, 400, None),
    ],
)
def test_invalid_chat_request_is_rejected_as_openai_does(
    changes: dict[str, object], status: int, code: str | None
) -> None:
    with pytest.raises(web.HTTPException) as refused:
        request(**changes)
    error = json.loads(refused.value.text or "")["error"]
    assert (refused.value.status, error["type"], error["code"]) == (status, "invalid_request_error", code)
