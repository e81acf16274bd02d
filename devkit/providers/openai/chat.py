"""Chat completions, with an answer from the knowledge in the prompt. Pure functions.

Formats: a `chat.completion` object, or server-sent events with `chat.completion.chunk` objects that end with
`data: [DONE]`; with `stream_options.include_usage` a last chunk without choices carries the usage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devkit.providers.knowledge import best_answer, entries_of, unknown_answer
from devkit.providers.openai import tools
from devkit.providers.openai.errors import reject
from devkit.providers.openai.models import require_model

_PROMPT_ROLES = ("system", "developer")
_ROLES = frozenset({*_PROMPT_ROLES, "user", "assistant", "tool", "function"})
_GREETING_TAG = re.compile(r"<greeting>(.*?)</greeting>", re.DOTALL)
_GREETING_WORD = re.compile(r"greet|welcome|say hello|introduce|تحية|التحية|رحب|رحّب|حيّ|حي ", re.IGNORECASE)
_RESULT_TAG = re.compile(r"<tool_result>\n(.*)\n</tool_result>", re.DOTALL)
_QUOTED = re.compile(r"[\"“«]([^\"”»]+)[\"”»]")
_WORD = re.compile(r"\s*\S+")
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class ChatRequest:
    """The fields of a request that have an effect; sampling settings have none."""

    model: str
    messages: tuple[tuple[str, str], ...]
    """Role and text of each message."""
    stream: bool
    include_usage: bool
    tools: tuple[tools.Tool, ...] = ()


def parse(document: object) -> ChatRequest:
    """Parse a decoded JSON body; reject an invalid one with 400 or 404 as OpenAI does."""
    if not isinstance(document, dict):
        reject("We could not parse the JSON body of your request.")
    model = require_model("chat", document.get("model"))
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        reject("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    options = document.get("stream_options") or {}
    stream = document.get("stream") is True
    if options and not stream:
        reject("The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options")
    return ChatRequest(
        model=model,
        messages=tuple(_message(index, message) for index, message in enumerate(messages)),
        stream=stream,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        tools=tools.parse(document.get("tools")),
    )


def has_instructions(messages: Sequence[tuple[str, str]]) -> bool:
    """Whether the messages contain instructions, as those of every conversation do."""
    return any(role in _PROMPT_ROLES for role, _ in messages)


def answer(messages: Sequence[tuple[str, str]]) -> str:
    """Return the model's answer: the knowledge's answer to the last user message, or the requested greeting.

    The answer to a tool's result is the result, without the mark that it is data. Without a question and a greeting it
    returns a sentence that it does not know.
    """
    last_role, last_text = messages[-1]
    if last_role == "tool":
        marked = _RESULT_TAG.search(last_text)
        return marked[1] if marked else last_text
    prompt = "\n".join(text for role, text in messages if role in _PROMPT_ROLES)
    question = next((text for role, text in reversed(messages) if role == "user" and text.strip()), "")
    if question:
        entry = best_answer(question, entries_of(prompt))
        return entry.text if entry else unknown_answer(question, prompt)
    instructions = [text for role, text in reversed(messages) if role in _PROMPT_ROLES]
    return next((said for text in instructions if (said := _greeting_in(text))), unknown_answer("", prompt))


def completion(request: ChatRequest, text: str, identifier: str, created: int) -> dict[str, Any]:
    """Return the whole answer as one object."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    finish_reason = _finish_reason(text)
    if call := tools.chosen(request.tools, request.messages):
        message, finish_reason = tools.message(call, _call_id(identifier)), "tool_calls"
    return {
        **_envelope(request, "chat.completion", identifier, created),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
        "usage": usage(request, text),
    }


def events(request: ChatRequest, text: str, identifier: str, created: int) -> Iterator[bytes]:
    """Yield the answer as server-sent events of one word each. An empty one spent its tokens on thinking."""
    envelope = _envelope(request, "chat.completion.chunk", identifier, created)
    if request.include_usage:
        envelope["usage"] = None

    def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**envelope, "choices": [choice]})

    if text and (call := tools.chosen(request.tools, request.messages)):
        for delta in tools.deltas(call, _call_id(identifier)):
            yield chunk(delta)
        yield chunk({}, "tool_calls")
    else:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for word in _WORD.findall(text):
            yield chunk({"content": word})
        yield chunk({}, _finish_reason(text))
    if request.include_usage:
        yield event({**envelope, "choices": [], "usage": usage(request, text)})
    yield b"data: [DONE]\n\n"


def event(document: Mapping[str, Any]) -> bytes:
    """Return one server-sent event that carries `document`."""
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def _call_id(identifier: str) -> str:
    return f"call_{identifier.removeprefix('chatcmpl-')[:24]}"


def _finish_reason(text: str) -> str:
    return "stop" if text else "length"


def usage(request: ChatRequest, text: str) -> dict[str, Any]:
    """Return the token counts, estimated from the number of characters."""
    prompt = _tokens("".join(content for _, content in request.messages))
    said = _tokens(text)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _envelope(request: ChatRequest, kind: str, identifier: str, created: int) -> dict[str, Any]:
    return {
        "id": identifier,
        "object": kind,
        "created": created,
        "model": request.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _message(index: int, message: object) -> tuple[str, str]:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        reject(f"Invalid value: 'messages[{index}]'.", param=f"messages[{index}].role", code="invalid_value")
    content = message.get("content")
    if isinstance(content, list):
        parts = [p.get("text", "") for p in content if isinstance(p, dict) and p.get("type") == "text"]
        content = "\n".join(parts)
    return message["role"], content if isinstance(content, str) else ""


def _greeting_in(instructions: str) -> str:
    if tagged := _GREETING_TAG.search(instructions):
        return tagged.group(1).strip()
    for line in instructions.splitlines():
        if not _GREETING_WORD.search(line):
            continue
        if quoted := _QUOTED.search(line):
            return quoted.group(1).strip()
        _, colon, said = line.partition(":")
        if colon and said.strip():
            return said.strip()
    return ""


def _tokens(text: str) -> int:
    return max(1, len(text) // _CHARACTERS_PER_TOKEN)
