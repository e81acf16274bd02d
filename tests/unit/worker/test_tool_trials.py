"""The trials of MCP servers while a worker runs, against a real server in this process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from devkit.providers import shop
from tests.ports import free_port
from tests.unit.worker.builders import make_config
from tests.waiting import soon
from worker.server import tool_trials
from worker.server.tool_trials import ToolTrials

TOKEN = "shop-token"
HEADER = {"name": "Authorization", "secretKeyRef": {"name": "shop", "key": "token"}}


class Shop:
    """The simulated shop, which a test starts."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server = uvicorn.Server(uvicorn.Config(shop.make_app(TOKEN), port=self.port, log_level="error"))
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._running = asyncio.create_task(self._server.serve())
        await soon(lambda: self._server.started)

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._running is not None:
            await self._running


@pytest.fixture
async def server() -> AsyncIterator[Shop]:
    server = Shop()
    yield server
    await server.stop()


def trials(*servers: dict[str, Any]) -> ToolTrials:
    tools = [{"name": f"shop_{number}", "mcp": server} for number, server in enumerate(servers)]
    return ToolTrials(make_config(tools=tools), lambda _: f"Bearer {TOKEN}")


@contextmanager
def running(tried: ToolTrials) -> Iterator[None]:
    registered = asyncio.Event()
    registered.set()
    task = asyncio.create_task(tried.run(registered))
    yield
    task.cancel()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_trials, "FAILING_SECONDS", 0.05)


async def test_server_that_comes_up_later_is_no_failure_then(server: Shop) -> None:
    tried = trials({"url": f"http://127.0.0.1:{server.port}/mcp", "headers": [HEADER], "startTimeoutSeconds": 5})
    with running(tried):
        await soon(lambda: tried.failure.startswith("shop_0: the server is unreachable"))
        await server.start()
        await soon(lambda: not tried.failure)


async def test_each_failing_server_is_named(server: Shop) -> None:
    await server.start()
    url = f"http://127.0.0.1:{server.port}/mcp"
    tried = trials({"url": url, "headers": [HEADER], "allowedTools": ["branch_fax"]}, {"url": url})
    with running(tried):
        await soon(lambda: "shop_0: the server has no tool branch_fax" in tried.failure)
        assert "shop_1: the server refuses the connection" in tried.failure


async def test_agent_without_a_server_has_nothing_to_try() -> None:
    await asyncio.wait_for(trials().run(asyncio.Event()), 1)
