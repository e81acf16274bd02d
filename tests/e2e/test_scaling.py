"""Workers follow the calls, and a deleted worker finishes its calls first."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from devkit.demo.product import AGENTS_NAMESPACE
from tests.e2e import agents
from tests.e2e.callers import answered, greeted
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking, eventually_in_thread

pytestmark = pytest.mark.timeout(400)


def test_three_callers_with_one_free_slot_are_all_answered(platform: Platform) -> None:
    async def three_calls(agent: str) -> None:
        async with AsyncExitStack() as stack:
            names = [f"Caller {number}" for number in range(3)]
            callers = await asyncio.gather(*(greeted(stack, platform, agent, name, hangs_up=True) for name in names))
            assert [len(caller.agents) for caller in callers] == [1, 1, 1]
            assert len(agents.serving(platform.product, agent)) == 3

    with agents.declared(platform.product, agents.one_slot(platform.targets, "three")) as agent:
        eventually_blocking(lambda: len(agents.serving(platform.product, agent)) == 1, "one worker is ready", 10)
        asyncio.run(three_calls(agent))
        eventually_blocking(lambda: len(agents.workers(platform.product, agent)) == 1, "one worker is left", 90)


def test_scale_down_removes_the_idle_worker(platform: Platform) -> None:
    declaration = agents.one_slot(platform.targets, "down", minWorkers=2)

    async def call_through_scale_down(agent: str) -> None:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, agent, "Caller")
            smaller = agents.one_slot(platform.targets, "down", minWorkers=1)
            await asyncio.to_thread(platform.product.apply, [smaller])
            await eventually_in_thread(lambda: len(agents.workers(platform.product, agent)) == 1, "one worker left", 60)
            await answered(caller)

    with agents.declared(platform.product, declaration) as agent:
        eventually_blocking(lambda: len(agents.serving(platform.product, agent)) == 2, "two workers serve", 60)
        asyncio.run(call_through_scale_down(agent))


def test_deleted_worker_finishes_its_call_first(platform: Platform) -> None:
    async def call_through_deletion(agent: str) -> str:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, agent, "Caller")
            (busy,) = agents.worker_names(platform.product, agent)
            delete = ("-n", AGENTS_NAMESPACE, "delete", "pod", busy, "--wait=false")
            await asyncio.to_thread(platform.product.kubectl_run, *delete)
            await eventually_in_thread(lambda: busy not in agents.serving(platform.product, agent), "it drains", 30)
            await answered(caller)
            assert busy in agents.worker_names(platform.product, agent)
            return busy

    with agents.declared(platform.product, agents.one_slot(platform.targets, "drain")) as agent:
        busy = asyncio.run(call_through_deletion(agent))
        eventually_blocking(
            lambda: busy not in agents.worker_names(platform.product, agent),
            "the drained worker exits after its call",
            60,
        )
