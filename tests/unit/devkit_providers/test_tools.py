"""Tool calls of the simulated language model."""

import json
from typing import Any

import pytest
from aiohttp import web

from devkit.providers.openai import chat
from worker.call import prompt

ORDER = {
    "name": "order_status",
    "parameters": {
        "type": "object",
        "properties": {"order": {"type": "integer"}, "note": {"type": "string"}},
        "required": ["order"],
    },
}
ASKED = {"role": "user", "content": "What is the status of my order 4711?"}


def request(*messages: dict[str, Any], function: dict[str, Any] = ORDER) -> chat.ChatRequest:
    tools = [{"type": "function", "function": function}]
    return chat.parse({"model": "gpt-4o-mini", "messages": list(messages), "tools": tools, "stream": True})


def test_tool_is_called_whose_name_is_in_the_question() -> None:
    wanted = request(ASKED)
    frames = b"".join(chat.events(wanted, "unused", "chatcmpl-7", 1)).decode().split("\n\n")[:-2]
    choices = [json.loads(frame.removeprefix("data: "))["choices"][0] for frame in frames]
    calls = [choice["delta"]["tool_calls"][0] for choice in choices if choice["delta"].get("tool_calls")]
    assert calls[0]["function"]["name"] == "order_status"
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"order": 4711, "note": "4711"}
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_whole_answer_has_the_same_call() -> None:
    choice = chat.completion(request(ASKED), "unused", "chatcmpl-7", 1)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "order_status"


def test_other_question_is_answered_without_the_tool() -> None:
    choice = chat.completion(request({"role": "user", "content": "Where are you?"}), "Here.", "c", 1)["choices"][0]
    assert choice["message"]["content"] == "Here."


def test_result_of_the_tool_is_the_answer() -> None:
    wanted = request(ASKED, {"role": "assistant", "content": None}, {"role": "tool", "content": "It is on its way."})
    assert chat.answer(wanted.messages) == "It is on its way."
    assert chat.completion(wanted, "It is on its way.", "c", 1)["choices"][0]["finish_reason"] == "stop"


def test_result_that_is_marked_as_data_is_the_answer_without_its_mark() -> None:
    result = {"role": "tool", "content": prompt.tool_result("It is\non its way.")}
    wanted = request(ASKED, {"role": "assistant", "content": None}, result)
    assert chat.answer(wanted.messages) == "It is\non its way."


@pytest.mark.parametrize(
    "function",
    [
        {"name": "order status", "parameters": {}},
        {"name": "order", "parameters": {"type": "string"}},
        {"name": "order", "parameters": {"type": "object", "properties": {"order": {"type": "text"}}}},
    ],
    ids=["name", "not an object", "unknown type"],
)
def test_invalid_function_is_rejected(function: dict[str, Any]) -> None:
    with pytest.raises(web.HTTPBadRequest):
        request(ASKED, function=function)
