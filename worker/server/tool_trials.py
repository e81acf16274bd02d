"""Tries the MCP servers of an agent's tools while the worker runs, so that a wrong one is known before a caller calls.

A trial connects and lists the tools, as each call does. HTTP tools are not tried: a request might book or delete
something. `worker.server.trials` sends their schemas to the language model.
"""

import asyncio
import logging
import os
import random
from collections.abc import Callable
from typing import Final

from agentspec import MCPServer
from agentspec.wire import WorkerConfig
from worker.call.tools import headers_of
from worker.call.tools.mcp import listed
from worker.call.tools.use import ToolFailed

logger = logging.getLogger(__name__)

FAILING_SECONDS: Final = 30.0
"""Pause before a server that failed is tried again."""
WORKING_SECONDS: Final = 300.0
"""Pause before a server that works is tried again."""
_SPREAD: Final = 0.2
"""Workers that start together try at different times: the pauses vary by this part."""
_CLOSE_SECONDS: Final = 5.0


class ToolTrials:
    """The trials of one worker. `failure` is why a server cannot be used, and empty while all can."""

    def __init__(self, config: WorkerConfig, environment: Callable[[str], str] = os.environ.__getitem__) -> None:
        self._servers = [
            (tool.name, tool.mcp, headers_of(number, tool, environment))
            for number, tool in enumerate(config.tools)
            if tool.mcp is not None
        ]
        self.failure = ""

    async def run(self, registered: asyncio.Event) -> None:
        """Try all servers again and again, from the registration on. Returns at once when there is none."""
        if not self._servers:
            return
        await registered.wait()
        while True:
            before = self.failure
            self.failure = await self.try_once()
            if self.failure and self.failure != before:
                logger.warning("tools cannot be used", extra={"error": self.failure})
            pause = FAILING_SECONDS if self.failure else WORKING_SECONDS
            await asyncio.sleep(pause * random.uniform(1 - _SPREAD, 1 + _SPREAD))

    async def try_once(self) -> str:
        """Try all servers; returns why some cannot be used, or an empty string."""
        found = [await _failure(name, server, headers) for name, server, headers in self._servers]
        return "; ".join(failure for failure in found if failure)[:1024]


async def _failure(name: str, server: MCPServer, headers: dict[str, str]) -> str:
    try:
        connection, _ = await listed(server, headers)
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.aclose()
    except ToolFailed as error:
        return f"{name}: {error}"
    except Exception as error:  # a trial must never end the worker
        return f"{name}: {type(error).__name__}"
    return ""
