"""The tools that a manifest declares (`spec.tools`), as the language model calls them.

Tools belong to the session, so every agent of a call has them. Their results are bounded, and data: the instructions
say that nothing in them is a request. `worker.call.turn_watch` covers the time that a tool takes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from livekit.agents import llm

from agentspec import ToolSpec
from agentspec.names import tool_header_variable
from agentspec.tools import KNOWLEDGE_SEARCH
from worker.call.tools.call_control import CallControl, end_call, send_dtmf, transfer
from worker.call.tools.http import http_tool
from worker.call.tools.mcp import MCPTools

__all__ = ["CallControl", "Tools", "headers_of", "make_tools"]

Tools = list[llm.Tool | llm.Toolset]

_MAX_TOOLS: Final = 64
"""Most tools of a call. With more, models choose badly, and each request sends all of them."""


def headers_of(number: int, tool: ToolSpec, environment: Callable[[str], str]) -> dict[str, str]:
    """Return the headers of the tool with this number in the manifest; `environment` reads a variable.

    Values lose surrounding blanks: a Secret created from a file ends with a newline, which no header may contain.
    """
    return {
        header.name: environment(tool_header_variable(number, position)).strip()
        for position, header in enumerate(tool.headers)
    }


def make_tools(declared: Sequence[ToolSpec], control: CallControl, environment: Callable[[str], str]) -> Tools:
    """Return the declared tools of one call."""
    tools: Tools = []
    taken = {KNOWLEDGE_SEARCH, *(tool.name for tool in declared)}
    for number, tool in enumerate(declared):
        headers = headers_of(number, tool, environment)
        match tool:
            case ToolSpec(http=http) if http is not None:
                tools.append(http_tool(tool.name, http, headers))
            case ToolSpec(mcp=server) if server is not None:
                tools.append(MCPTools(tool.name, server, headers, partial(_claim, taken)))
            case ToolSpec(end_call=spec) if spec is not None:
                tools.append(end_call(tool.name, spec, control))
            case ToolSpec(transfer=spec) if spec is not None:
                tools.append(transfer(tool.name, spec, control))
            case ToolSpec(send_dtmf=spec) if spec is not None:
                tools.append(send_dtmf(tool.name, spec, control))
    return tools


def _claim(taken: set[str], name: str) -> bool:
    """Return whether a tool of a server may have this name: each name exists once, and there are _MAX_TOOLS."""
    if name in taken or len(taken) >= _MAX_TOOLS:
        return False
    taken.add(name)
    return True
