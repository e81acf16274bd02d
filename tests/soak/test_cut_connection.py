"""The only worker's connection to LiveKit is cut as a caller comes: another worker answers.

The worker gets no sign of the cut. LiveKit gets a reset and drops the worker's registration, or gets none and keeps it.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from devkit.demo.caller import call
from gateway.calls.step import ACCEPT_TIMEOUT_SECONDS, MAX_DECLINES, RETRY_PAUSE_SECONDS
from tests.e2e import agents
from tests.e2e.callers import answered
from tests.e2e.conftest import Platform
from tests.soak.test_frozen_worker import GREETING_SECONDS, START_FACTOR
from tests.waiting import eventually_blocking, eventually_in_thread

NAME = "cut"
LOST_SECONDS = 40.0
"""The worker gives the connection up after 10 s and counts as lost 15 s later; the rest is for a busy node."""
DECLINED_SECONDS = (MAX_DECLINES - 1) * (ACCEPT_TIMEOUT_SECONDS + RETRY_PAUSE_SECONDS)
"""LiveKit offers every second dispatch to the registration that it keeps. Eight of them in a row fail the call."""

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Waited:
    """Seconds from the cut."""

    lost: float
    """When another worker appeared, because the only one counts as lost."""
    answered: float
    """When the caller heard the first word."""


async def caller_at_the_cut(platform: Platform, lost: str) -> Waited:
    """Call an agent whose only worker has just been cut off, and ask a question."""
    product, began = platform.product, time.monotonic()

    async def another_worker() -> float:
        def others() -> set[str]:
            return set(agents.worker_names(product, NAME)) - {lost}

        await eventually_in_thread(others, "another worker starts", LOST_SECONDS)
        return time.monotonic() - began

    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(await call(platform.gateway, NAME, "Caller"))
        watching = asyncio.create_task(another_worker())
        await caller.first_word(90)
        heard = time.monotonic() - began
        await caller.hear(30)
        await answered(caller)
        assert lost not in agents.serving(product, NAME), "the worker that is cut off is not ready"
        return Waited(await watching, heard)


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "silent"])
def test_caller_at_the_cut_is_answered_by_another_worker(platform: Platform, reset: bool) -> None:
    product = platform.product
    agent = agents.manifest(
        platform.targets,
        NAME,
        worker={"callsPerWorker": 4, "maxCallMinutes": 5},
        scaling={"minWorkers": 1, "maxWorkers": 3, "freeSlots": 0},
    )
    began = time.monotonic()
    with agents.declared(product, agent):
        start = time.monotonic() - began
        (pod,) = agents.workers(product, NAME)
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        with platform.cluster.livekit_cut(address, reset=reset):
            waited = asyncio.run(caller_at_the_cut(platform, name))
        since = waited.answered - waited.lost
        print(
            f"\nthe worker counted as lost {waited.lost:.1f} s after the cut; the caller was answered {since:.1f} s "
            f"later; a start takes {start:.1f} s"
        )
        ended = time.monotonic()
        eventually_blocking(lambda: name in agents.serving(product, NAME), "it is registered again", 60)
        print(f"the worker was registered again {time.monotonic() - ended:.1f} s after the end of the cut")
        (container,) = product.get("pod", name)["status"]["containerStatuses"]
        assert container["restartCount"] == 0
    assert since <= START_FACTOR * start + GREETING_SECONDS + (0.0 if reset else DECLINED_SECONDS)
