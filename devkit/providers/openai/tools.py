"""Which tool the simulated model calls, and with which arguments. Pure functions.

The model calls a tool when every word of the tool's name is in the caller's last sentence: `order_status` for "What is
the status of my order 4711?". A number argument is the sentence's first number. A text argument is that number as well,
or the last word when there is none. The answer to the tool's result is the result itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devkit.providers.openai.errors import reject

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})


@dataclass(frozen=True)
class Tool:
    """A function that the request offers."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """The call of a tool, with its arguments as JSON."""

    name: str
    arguments: str


def parse(tools: object) -> tuple[Tool, ...]:
    """Return the offered functions; reject an invalid one with 400 as OpenAI does."""
    if not isinstance(tools, list):
        return ()
    return tuple(_parse(index, tool) for index, tool in enumerate(tools))


def _parse(index: int, tool: object) -> Tool:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not _NAME.fullmatch(name):
        reject(f"Invalid 'tools[{index}].function.name'.", param=f"tools[{index}].function.name", code="invalid_value")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not _is_schema(parameters) or parameters.get("type") != "object":
        reject(
            f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'.",
            param=f"tools[{index}].function.parameters",
            code="invalid_function_parameters",
        )
    return Tool(name, parameters)


def _is_schema(schema: object) -> bool:
    if not isinstance(schema, dict):
        return False
    kinds = schema.get("type", [])
    names = kinds if isinstance(kinds, list) else [kinds]
    properties = schema.get("properties", {})
    return set(names) <= _TYPES and isinstance(properties, dict) and all(map(_is_schema, properties.values()))


def chosen(tools: Sequence[Tool], messages: Sequence[tuple[str, str]]) -> ToolCall | None:
    """Return the tool call that answers the last message, if it is the caller's and one of the tools fits it."""
    role, text = messages[-1]
    if role != "user":
        return None
    said = {_stem(word) for word in _WORD.findall(text.lower())}
    for tool in tools:
        if {_stem(word) for word in re.split(r"[_-]+", tool.name.lower()) if word} <= said:
            arguments = {
                name: _argument(schema, text) for name, schema in tool.parameters.get("properties", {}).items()
            }
            return ToolCall(tool.name, json.dumps(arguments, ensure_ascii=False))
    return None


def _stem(word: str) -> str:
    """Return a word without a plural's ending: people ask for orders and for an order."""
    return word.removesuffix("s")


def _argument(schema: Mapping[str, Any], text: str) -> object:
    number = _NUMBER.search(text)
    if schema.get("type") in ("integer", "number"):
        return float(number[0]) if number and "." in number[0] else int(number[0]) if number else 0
    words = _WORD.findall(text)
    return number[0] if number else words[-1] if words else ""


def deltas(call: ToolCall, identifier: str) -> list[dict[str, Any]]:
    """Return the deltas of a streamed answer that calls a tool."""
    head = {"name": call.name, "arguments": ""}
    return [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, "id": identifier, "type": "function", "function": head}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": call.arguments}}]},
    ]


def message(call: ToolCall, identifier: str) -> dict[str, Any]:
    """Return the message of a whole answer that calls a tool."""
    function = {"name": call.name, "arguments": call.arguments}
    return {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [{"id": identifier, "type": "function", "function": function}],
    }
