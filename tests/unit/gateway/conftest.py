"""Fixtures of the gateway's tests: a gateway among fakes, and HTTP clients of it without a network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from gateway.api.app import create_app
from gateway.api.forwarding import internal_session
from gateway.calls import adoption, dispatcher, foreign, opening, reports, watch
from gateway.settings import GatewaySettings
from tests.unit.gateway.fakes import FakeLiveKit, World, create_world
from tests.unit.gateway.pairs import SHARD, Instance, Pair, introduce
from tests.unit.gateway.scenes import NOW, ROOM

BASE = "http://gateway.example"
API_KEY = "a-long-enough-api-key"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A gateway among fakes, which stops at the end of the test."""
    keys, assets = tmp_path / "keys", tmp_path / "assets"
    keys.mkdir()
    assets.mkdir()
    (keys / "agents.website").write_text(API_KEY + "\n")
    (assets / "livekit-client.esm.mjs").write_text("export {};")
    created = create_world(GatewaySettings(api_keys_dir=keys, livekit_client_dir=assets, max_pending_per_agent=2))
    yield created
    await created.gateway.dispatcher.stop()


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests come from the gateway's own page."""
    transport = httpx.ASGITransport(create_app(world.gateway), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers={"Origin": BASE}) as client:
        yield client


@pytest.fixture
async def room(world: World) -> str:
    """A room that a back end made. Its dispatch to no agent is the one that LiveKit adds itself."""
    await world.livekit.create_room(ROOM, "the back end's own metadata", "", "")
    world.livekit.connect_caller(ROOM, "layla")
    return ROOM


@pytest.fixture
async def virtual_clock(virtual_time: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls use the virtual event loop's time, so that a test waits for any timeout at no cost."""
    clock = SimpleNamespace(time=lambda: NOW + asyncio.get_running_loop().time())
    for module in (adoption, dispatcher, foreign, opening, reports, watch):
        monkeypatch.setattr(module, "time", clock)


@pytest.fixture
async def keep_in_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no gateway be fenced, however busy the machine is."""
    monkeypatch.setattr("gateway.cluster.members.FENCE_SECONDS", 1000.0)


@pytest.fixture
async def pair(keep_in_touch: None) -> AsyncIterator[Pair]:
    livekit = FakeLiveKit()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(internal_session())
        instances = [Instance(name, livekit, session) for name in ("a", "b")]
        introduce(*(one.members for one in instances))
        for one in instances:
            await stack.enter_async_context(one.serving())
        instances.sort(key=lambda one: not one.members.is_mine(SHARD))
        created = Pair(*instances)
        await stack.enter_async_context(created.http)
        yield created
