"""A tool that is one HTTP request."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
from livekit.agents import function_tool, llm, utils

from agentspec import HTTPMethod, HTTPTool
from worker.call.tools.use import MAX_RESULT_BYTES, ToolFailed, use_external

_IN_QUERY: Final = (HTTPMethod.GET, HTTPMethod.DELETE)
_IN_PATH: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")


@dataclass(frozen=True)
class Request:
    """What to send. `query` is added to the address, `body` is sent as JSON unless it is None."""

    url: str
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None


def http_tool(name: str, spec: HTTPTool, headers: Mapping[str, str]) -> llm.RawFunctionTool[..., Any]:
    """Return the tool. `headers` go with every request."""

    async def run(raw_arguments: dict[str, object]) -> str:
        return await use_external(name, spec.timeout_seconds, _send(spec, headers, raw_arguments))

    schema = {"name": name, "description": spec.description, "parameters": spec.parameters}
    return function_tool(run, raw_schema=schema)


def planned(spec: HTTPTool, arguments: Mapping[str, Any]) -> Request:
    """Return the request for the arguments that the language model chose.

    Raises:
        ToolFailed: an argument of the path is missing.
    """
    rest = dict(arguments)

    def value(found: re.Match[str]) -> str:
        argument = _text(rest.pop(found[1], ""))
        if argument in ("", ".", "..", "null"):  # dots would be another path
            raise ToolFailed(f"the argument {found[1]} is missing or unusable")
        return quote(argument, safe="")

    address = urlsplit(spec.url)
    url = address._replace(path=_IN_PATH.sub(value, address.path)).geturl()
    if spec.method in _IN_QUERY:
        return Request(url, query={name: _text(argument) for name, argument in rest.items() if argument is not None})
    return Request(url, body=rest)


def _text(argument: Any) -> str:  # noqa: ANN401 - a JSON value
    return argument if isinstance(argument, str) else json.dumps(argument, ensure_ascii=False)


async def _send(spec: HTTPTool, headers: Mapping[str, str], arguments: Mapping[str, Any]) -> str:
    request = planned(spec, arguments)
    try:
        async with utils.http_context.http_session().request(
            spec.method,
            request.url,
            params=request.query,
            json=request.body,
            headers=headers,
            allow_redirects=False,  # the headers are for the declared server only
        ) as answer:
            if not answer.ok or answer.status in range(300, 400):
                raise ToolFailed(f"the server answered HTTP {answer.status}")
            content = await _content(answer.content)
    except aiohttp.ClientError as error:
        raise ToolFailed(f"the server is unreachable: {type(error).__name__}") from error
    return _decoded(content, answer.charset) or "done, no content"


async def _content(stream: aiohttp.StreamReader) -> bytes:
    """Return the whole body, or so much of it that `use` cuts it. One read returns only what has arrived."""
    content = b""
    while len(content) <= MAX_RESULT_BYTES and (part := await stream.read(MAX_RESULT_BYTES + 1 - len(content))):
        content += part
    return content


def _decoded(content: bytes, charset: str | None) -> str:
    """Return the text of a body. Without a charset, or with one that Python does not know, it is UTF-8."""
    try:
        return content.decode(charset or "utf-8", errors="replace")
    except (LookupError, ValueError):
        return content.decode(errors="replace")
