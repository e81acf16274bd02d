"""Two gateways: one is deleted while a caller talks and others wait, and no caller notices."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from devkit.demo.caller import Caller, CallError
from devkit.demo.product import SYSTEM_NAMESPACE, Product
from tests.e2e import agents
from tests.e2e.callers import answered, greeted, requested
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

GATEWAYS = "app.kubernetes.io/component=gateway"
ACCEPT_SECONDS = 10.0
"""A new call is accepted within 2 s. The rest is for this machine, which runs all of the cluster."""
ANSWER_SECONDS = 60


def gateways(product: Product) -> list[str]:
    """Return the names of the ready gateway pods that are not being deleted."""
    return [
        pod["metadata"]["name"]
        for pod in product.items("pods", GATEWAYS, SYSTEM_NAMESPACE)
        if "deletionTimestamp" not in pod["metadata"]
        and any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
    ]


def owner(product: Product, room: str) -> str:
    """Return the gateway that opened the call in a room."""
    (name,) = [
        name
        for name in gateways(product)
        if any(
            '"call opened"' in line and room in line
            for line in product.kubectl_run("-n", SYSTEM_NAMESPACE, "logs", name).splitlines()
        )
    ]
    return name


async def accepted(stack: AsyncExitStack, platform: Platform, agent: str, name: str) -> Caller:
    """Call until a gateway accepts, as a client does that repeats a request that failed."""
    while True:
        try:
            return await requested(stack, platform, agent, name, hangs_up=True)
        except CallError:
            await asyncio.sleep(0.2)


def test_deleted_gateway_costs_no_call_and_no_place_in_line(platform: Platform) -> None:
    product = platform.product

    async def scene(agent: str) -> None:
        async with AsyncExitStack() as everyone:
            async with AsyncExitStack() as first:
                talking = await greeted(first, platform, agent, "Talking", hangs_up=True)
                second, third = AsyncExitStack(), AsyncExitStack()
                await everyone.enter_async_context(third)
                await everyone.enter_async_context(second)
                before = await accepted(second, platform, agent, "Second")
                behind = await accepted(third, platform, agent, "Third")
                gone = owner(product, talking.room.name)
                product.kubectl_run("-n", SYSTEM_NAMESPACE, "delete", "pod", gone, "--grace-period=0", "--force")
                deleted_at = time.monotonic()
                async with asyncio.timeout(ANSWER_SECONDS):
                    last = await accepted(everyone, platform, agent, "Last")
                assert time.monotonic() - deleted_at < ACCEPT_SECONDS
                await answered(talking)
                assert not (before.agents or behind.agents or last.agents), "there is one slot"
            await before.first_word(ANSWER_SECONDS)
            assert not (behind.agents or last.agents), "the second caller was first in line"
            await second.aclose()
            await behind.first_word(ANSWER_SECONDS)
            assert not last.agents, "a new call waits behind the others"
            await third.aclose()
            await last.first_word(ANSWER_SECONDS)
            assert [len(caller.agents) for caller in (talking, before, behind, last)] == [1, 1, 1, 1]

    eventually_blocking(lambda: len(gateways(product)) == 2, "two gateways run", 60)
    declared = agents.one_slot(platform.targets, "replicas", maxWorkers=1)
    with agents.declared(product, declared) as agent:
        asyncio.run(scene(agent))
    eventually_blocking(lambda: len(gateways(product)) == 2, "the gateway is replaced", 60)
