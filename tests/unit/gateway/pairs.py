"""Two gateways over real connections, so that one forwards requests to the other."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import uvicorn

from gateway.api.app import create_app
from gateway.cluster.members import Members, shard_of
from gateway.settings import GatewaySettings
from tests.unit.gateway.fakes import FakeLiveKit, World, create_world, example_agent
from tests.unit.gateway.scenes import BODY
from tests.waiting import soon

ORIGIN = "http://gateway.example"
SHARD = shard_of(example_agent().key)


class Instance:
    """A gateway with a port for callers and one for other gateways."""

    def __init__(self, name: str, livekit: FakeLiveKit, session: aiohttp.ClientSession) -> None:
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.port, self.internal_port = (one.getsockname()[1] for one in self.sockets)
        self.members = Members(name, f"127.0.0.1:{self.internal_port}")
        settings = GatewaySettings(internal_port=self.internal_port)
        self.world: World = create_world(settings, livekit, members=self.members, session=session)
        self.app = create_app(self.world.gateway)

    def count(self, result: str) -> float:
        """Number of attempts to forward with this result."""
        labels = {"result": result}
        found = self.world.gateway.metrics.registry.get_sample_value(
            "avatar_agent_gateway_forwarded_requests_total", labels
        )
        return found or 0.0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        config = uvicorn.Config(self.app, log_config=None, proxy_headers=False, lifespan="off")
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve(self.sockets))
        await soon(lambda: server.started)
        try:
            yield
        finally:
            server.should_exit = True
            await task
            await self.world.gateway.dispatcher.stop()


class Pair:
    """The owner of the agent, and a gateway that callers reach."""

    def __init__(self, owner: Instance, other: Instance) -> None:
        self.owner, self.other = owner, other
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{other.port}", timeout=20)

    def headers(self, **more: str) -> dict[str, str]:
        return {"Origin": ORIGIN, "Host": "gateway.example", **more}

    async def open_call(self, **headers: str) -> dict[str, Any]:
        response = await self.http.post("/v1/calls", json=BODY, headers=self.headers() | headers)
        assert response.status_code == 201, response.text
        body: dict[str, Any] = response.json()
        return body


def introduce(*members: Members) -> None:
    """Let gateways know each other, and act."""
    for one in members:
        one.received([other.me for other in members], time.monotonic())
        one._active_from = 0.0
