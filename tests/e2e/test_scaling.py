"""Workers follow the calls, and a worker that is taken away finishes its calls first."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from devkit.demo.caller import Caller, call
from devkit.demo.conversation import SAME, ask
from devkit.demo.product import AGENTS_NAMESPACE
from devkit.providers.speech import similarity
from tests.e2e import agents
from tests.e2e.conftest import Platform

QUESTION = "أَيْنَ يَقَعُ مَكْتَبُكُمْ؟"
FACT = "يَقَعُ مَكْتَبُنَا فِي مَدِينَةِ دِمَشْقَ، فِي شَارِعِ بَغْدَادَ."

pytestmark = pytest.mark.timeout(400)


def one_slot(platform: Platform, name: str, **scaling: Any) -> dict[str, Any]:
    return agents.manifest(
        platform.targets,
        name,
        worker={"callsPerWorker": 1, "maxCallMinutes": 5},
        scaling={"minWorkers": 1, "maxWorkers": 3, "freeSlots": 0, "scaleDownDelaySeconds": 3, **scaling},
    )


async def greeted(stack: AsyncExitStack, platform: Platform, agent: str, name: str) -> Caller:
    """A caller who has heard the greeting; stays until the stack unwinds."""
    caller = await stack.enter_async_context(await call(platform.gateway, agent, name))
    await caller.first_word(90)
    await caller.hear(30)
    return caller


async def answered(caller: Caller) -> None:
    """The caller asks and is told the fact."""
    _, _, caption = await ask(caller, QUESTION)
    assert similarity(caption, FACT) >= SAME, caption


def test_three_callers_on_one_slot_workers_with_one_warm_are_all_answered(platform: Platform) -> None:
    async def three_calls(agent: str) -> None:
        async with AsyncExitStack() as stack:
            callers = await asyncio.gather(*(greeted(stack, platform, agent, f"Caller {n}") for n in range(3)))
            assert [len(caller.agents) for caller in callers] == [1, 1, 1]
            assert len(agents.serving(platform.product, agent)) == 3

    with agents.declared(platform.product, one_slot(platform, "three")) as agent:
        agents.eventually(lambda: len(agents.serving(platform.product, agent)) == 1, 10, "one worker is warm")
        asyncio.run(three_calls(agent))
        agents.eventually(lambda: len(agents.workers(platform.product, agent)) == 1, 90, "the workers went back to one")


def test_a_scale_down_takes_the_idle_worker_and_leaves_the_call(platform: Platform) -> None:
    declaration = one_slot(platform, "down", minWorkers=2)

    async def call_through_scale_down(agent: str) -> None:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, agent, "Caller")
            smaller = one_slot(platform, "down", minWorkers=1)
            await asyncio.to_thread(platform.product.apply, [smaller])
            await asyncio.to_thread(
                agents.eventually, lambda: len(agents.workers(platform.product, agent)) == 1, 60, "one worker left"
            )
            await answered(caller)

    with agents.declared(platform.product, declaration) as agent:
        agents.eventually(lambda: len(agents.serving(platform.product, agent)) == 2, 60, "two workers serve")
        asyncio.run(call_through_scale_down(agent))


def test_a_busy_worker_that_is_taken_away_finishes_its_call_and_then_leaves(platform: Platform) -> None:
    async def call_through_deletion(agent: str) -> str:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, agent, "Caller")
            (busy,) = agents.worker_names(platform.product, agent)
            delete = ("-n", AGENTS_NAMESPACE, "delete", "pod", busy, "--wait=false")
            await asyncio.to_thread(platform.product.kubectl_run, *delete)
            await asyncio.to_thread(
                agents.eventually, lambda: busy not in agents.serving(platform.product, agent), 30, "it drains"
            )
            await answered(caller)
            assert busy in agents.worker_names(platform.product, agent)
            return busy

    with agents.declared(platform.product, one_slot(platform, "drain")) as agent:
        busy = asyncio.run(call_through_deletion(agent))
        agents.eventually(
            lambda: busy not in agents.worker_names(platform.product, agent),
            60,
            "the drained worker left once its call had ended",
        )
