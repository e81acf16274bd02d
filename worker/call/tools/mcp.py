"""The tools of an MCP server, from the moment that the server has listed them.

The SDK waits for all servers before a session starts. A caller must not wait for a server that hangs, so here the
session starts at once, and the tools are there when the server has answered. A language model gets them with its next
request. A realtime model gets them when `on_listed` sends them.

Source: Model Context Protocol, revision 2025-06-18, "Streamable HTTP" and "Tools".
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from livekit.agents import function_tool, llm

from agentspec import MCPServer
from agentspec.tools import MAX_SERVER_TOOLS
from worker.call.tools.use import ToolFailed, use_external

if TYPE_CHECKING:
    from livekit.agents.llm.mcp import MCPServerHTTP, MCPToolResultContext

logger = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 2.0
"""How long closing the connection may take, at the end of a call."""


class MCPTools(llm.Toolset):
    """The tools of one server that the manifest allows. `claim` returns whether a name is still free."""

    def __init__(self, name: str, spec: MCPServer, headers: Mapping[str, str], claim: Callable[[str], bool]) -> None:
        super().__init__(id=name)
        self._spec = spec
        self._claim = claim
        self._headers = headers
        self._server: MCPServerHTTP | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.on_listed: Callable[[], Awaitable[None]] | None = None
        """Called once the tools are there."""

    async def setup(self) -> "MCPTools":
        """Override: begin to connect. The session calls this before the first agent starts, and at each hand-off."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="connect_mcp_server")
        return self

    async def aclose(self) -> None:
        """Override: close the connection. The session calls this at its end."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._server is not None:
            with suppress(Exception):  # the call has ended, and the server notices the closed connection
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._server.aclose()

    async def _connect(self) -> None:
        try:
            self._server, found = await listed(self._spec, self._headers)
        except ToolFailed as error:
            logger.warning("tools of an MCP server are missing", extra={"tool": self.id, "error": str(error)})
            return
        names = islice(filter(self._claim, found), MAX_SERVER_TOOLS)
        self._tools = [self._bounded(found[name]) for name in names]
        if len(self._tools) < len(found):
            fields = {"tool": self.id, "names": sorted(set(found) - {tool.id for tool in self.tools})}
            logger.warning("tools of an MCP server left out: names taken, or too many", extra=fields)
        logger.info("tools of an MCP server ready", extra={"tool": self.id, "count": len(self._tools)})
        if self._tools and self.on_listed is not None:
            try:
                await self.on_listed()
            except Exception as error:  # the call goes on with the tools that the model has
                fields = {"tool": self.id, "error": str(error)}
                logger.warning("tools of an MCP server did not reach the model", extra=fields)

    def _bounded(self, tool: llm.RawFunctionTool[..., Any]) -> llm.RawFunctionTool[..., Any]:
        """Return the server's tool with the limits of `use`."""

        async def run(raw_arguments: dict[str, object]) -> str:
            return await use_external(tool.id, self._spec.timeout_seconds, _called(tool, raw_arguments))

        return function_tool(run, raw_schema=tool.info.raw_schema)


async def _called(tool: llm.RawFunctionTool[..., Any], arguments: dict[str, object]) -> str:
    try:
        return str(await tool(raw_arguments=arguments))
    except llm.ToolError as error:  # the server's own words: they may say what to correct
        return f"error: {error.message}"


async def listed(
    spec: MCPServer, headers: Mapping[str, str]
) -> tuple["MCPServerHTTP", dict[str, llm.RawFunctionTool[..., Any]]]:
    """Connect, and return the connection with the allowed tools by name.

    Raises:
        ToolFailed: the server does not answer in `startTimeoutSeconds`, or lacks an allowed tool.
    """
    # Imported only when needed: the protocol's library takes 20 MiB and 0.3 s.
    from livekit.agents.llm.mcp import MCPServerHTTP

    server = MCPServerHTTP(
        spec.url,
        transport_type="streamable_http",
        headers=dict(headers),
        timeout=spec.start_timeout_seconds,
        client_session_timeout_seconds=spec.timeout_seconds,
        tool_result_resolver=_text,
    )
    try:
        async with asyncio.timeout(spec.start_timeout_seconds):
            await server.initialize()
            found = {tool.id: tool for tool in await server.list_tools()}
    except Exception as error:
        with suppress(Exception):
            await server.aclose()
        if isinstance(error, TimeoutError):
            raise ToolFailed(f"no answer within {spec.start_timeout_seconds} s") from error
        raise ToolFailed(_cause(error)) from error
    missing = [name for name in spec.allowed_tools if name not in found]
    if missing:
        await server.aclose()
        raise ToolFailed(f"the server has no tool {', '.join(missing)}; it has {', '.join(sorted(found)) or 'none'}")
    return server, {name: found[name] for name in spec.allowed_tools} if spec.allowed_tools else found


def _cause(error: BaseException) -> str:
    """Return what failed, without text of the server. Errors come as groups of one, and without the HTTP status."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if type(error).__name__ == "MCPError":
        return "the server refuses the connection: check url and headers"
    return f"the server is unreachable: {type(error).__name__}"


def _text(context: "MCPToolResultContext") -> str:
    """Return the text of a result; other content, such as images, as its kind."""
    parts: list[Any] = [getattr(part, "text", None) or f"[{part.type}]" for part in context.result.content]
    return "\n".join(parts) if parts else json.dumps(context.result.structured_content or "done, no content")
