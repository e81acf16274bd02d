"""The only worker hangs: another worker starts in its place and answers, also a caller who comes at that moment."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from controller.fleet.streams import ANSWER_SECONDS
from devkit.demo.caller import call
from devkit.demo.product import AGENTS_NAMESPACE
from gateway.calls.step import ACCEPT_TIMEOUT_SECONDS
from tests.e2e import agents
from tests.e2e.callers import answered
from tests.e2e.conftest import Platform
from tests.soak.test_worker_processes import FREEZE
from tests.waiting import eventually_blocking

START_FACTOR = 1.3
"""How much longer than the start of a worker a caller may wait for the first word, once the worker counts as lost."""
NOTICE_SECONDS = ACCEPT_TIMEOUT_SECONDS + ANSWER_SECONDS
"""How long it takes from a caller's dispatch until the worker counts as lost."""
GREETING_SECONDS = 1.0
"""What a start does not include: a dispatched call takes this long until the first word, on two busy cores."""
LOST_SECONDS = 60.0
NAME = "frozen"


@pytest.fixture
def frozen(platform: Platform) -> Iterator[tuple[str, float]]:
    """An agent whose only worker hangs: its pod, and the seconds from the manifest until the agent was Ready."""
    agent = agents.manifest(
        platform.targets,
        NAME,
        worker={"callsPerWorker": 4, "maxCallMinutes": 5},
        scaling={"minWorkers": 1, "maxWorkers": 1},
    )
    began = time.monotonic()
    with agents.declared(platform.product, agent):
        start = time.monotonic() - began
        (name,) = agents.worker_names(platform.product, NAME)
        command = ["-n", AGENTS_NAMESPACE, "exec", name, "--", "python", "-c"]
        platform.product.kubectl_run(*command, FREEZE)
        yield name, start


async def first_word(platform: Platform) -> float:
    """Seconds that a caller waits for the agent, who then answers a question."""
    async with AsyncExitStack() as stack:
        began = time.monotonic()
        caller = await stack.enter_async_context(await call(platform.gateway, NAME, "Caller"))
        await caller.first_word(90)
        heard = time.monotonic() - began
        await caller.hear(30)
        await answered(caller)
    return heard


@pytest.mark.timeout(400)
def test_caller_who_comes_at_once_is_answered_by_another_worker(platform: Platform, frozen: tuple[str, float]) -> None:
    lost, start = frozen
    seconds = asyncio.run(first_word(platform))
    print(f"the worker hung as the caller came: greeted after {seconds:.1f} s; a start takes {start:.1f} s")
    assert lost not in agents.serving(platform.product, NAME)
    assert seconds <= NOTICE_SECONDS + START_FACTOR * start + GREETING_SECONDS


@pytest.mark.timeout(400)
def test_lost_worker_is_replaced_before_the_caller_comes(platform: Platform, frozen: tuple[str, float]) -> None:
    lost, start = frozen

    def is_replaced() -> bool:
        return bool(set(agents.worker_names(platform.product, NAME)) - {lost})

    eventually_blocking(is_replaced, "another worker starts in place of the lost one", LOST_SECONDS)
    seconds = asyncio.run(first_word(platform))
    print(f"the worker counted as lost: greeted after {seconds:.1f} s; a start takes {start:.1f} s")
    assert seconds <= START_FACTOR * start + GREETING_SECONDS
