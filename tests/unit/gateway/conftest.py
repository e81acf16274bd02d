"""A gateway among fakes, over HTTP without a network."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.unit.gateway.fakes import World, world

BASE = "http://gateway.example"
API_KEY = "a-long-enough-api-key"


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    """The world; its calls are let go at the end."""
    keys, assets = tmp_path / "keys", tmp_path / "assets"
    keys.mkdir()
    assets.mkdir()
    (keys / "website").write_text(API_KEY + "\n")
    (assets / "livekit-client.esm.mjs").write_text("export {};")
    found = world(GatewaySettings(api_keys_dir=keys, livekit_client_dir=assets, max_pending_per_agent=2))
    yield found
    await found.gateway.dispatcher.stop()


@pytest.fixture
async def http(there: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests come from a page of the gateway itself."""
    transport = httpx.ASGITransport(create_app(there.gateway), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers={"Origin": BASE}) as client:
        yield client
