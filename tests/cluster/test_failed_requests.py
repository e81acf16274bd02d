"""An overloaded API server rejects many requests: the controller retries with backoff and finishes."""

import asyncio
import secrets
import time
from pathlib import Path

import pytest

from devkit.cluster import Cluster
from kube.kinds import AVATAR_AGENT
from tests.cluster.openai import OpenAI
from tests.cluster.proxy import Proxy
from tests.cluster.staged import staged
from tests.cluster.world import World
from tests.waiting import eventually

AGENTS = [f"agent-{number}" for number in range(8)]
SHARE = 0.3
SEED = 4
DONE_SECONDS = 120.0
MORE_REQUESTS = 2.5
"""Limit of requests, as a multiple: three of ten fail, and the controller repeats those and some reconciles."""
LOOK_SECONDS = 10.0
REQUESTS_PER_SECOND = 5.0
"""Limit in steady state: reads of references, retries, and renewals of the Lease."""


@pytest.mark.timeout(420)
async def test_few_more_requests_are_sent_when_a_third_of_them_fail(
    cluster: Cluster, openai: OpenAI, controller_kubeconfig: Path, tmp_path: Path
) -> None:
    namespace = f"test-{secrets.token_hex(3)}"
    async with staged(cluster, openai, controller_kubeconfig, tmp_path, namespace) as (world, proxy, controller):
        usual = await _requests(world, proxy)
        proxy.fail(SHARE, SEED)
        stressed = await _requests(world, proxy)
        refused = [exchange for exchange in proxy.exchanges if exchange.status in (429, 500, 409)]
        print(f"{usual} requests usually, {stressed} under stress, of which {len(refused)} were refused")
        assert len(refused) > stressed * SHARE / 2, "enough requests failed"
        assert stressed <= MORE_REQUESTS * usual
        before, began = len(proxy.exchanges), time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
        assert len(proxy.exchanges) - before < REQUESTS_PER_SECOND * (time.monotonic() - began)
        assert len(controller.starts) <= 2, "the Lease may be lost once"
        assert controller.unexpected() == []


async def _requests(world: World, proxy: Proxy) -> int:
    """Create, change and delete agents; return the number of the controller's requests."""
    before = len(proxy.exchanges)
    await asyncio.gather(*(world.declare(name) for name in AGENTS))
    for name in AGENTS:
        await world.becomes(name, "True", seconds=DONE_SECONDS)
    await asyncio.gather(*(world.declare(name, persona={"greeting": "Hello"}) for name in AGENTS))
    for name in AGENTS:
        await eventually(lambda name=name: _changed(world, name), f"{name} is changed", DONE_SECONDS)  # type: ignore[misc]
    await asyncio.gather(*(world.remove(AVATAR_AGENT, name) for name in AGENTS))
    await eventually(world.nothing, "nothing is left", DONE_SECONDS)
    return len(proxy.exchanges) - before


async def _changed(world: World, name: str) -> bool:
    """Whether the agent has one worker with the new configuration, and is Ready."""
    workers = world.standin.of(name)
    if len(workers) != 1 or "Hello" not in await world.configuration(workers[0].pod):
        return False
    return (await world.condition(name))["status"] == "True" and await world.rollouts(name) == 2
