"""The stock agent beside that of the previous release, in one run: first word, answer time and memory.

Both are agents of one installation, with the same providers, and differ only in `worker.image`. Calls go to each in
turn. The memory is that of the worker's pod, as in `test_held_call.py`.
"""

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devkit import benchmarks
from devkit import cluster as clusters
from devkit.benchmarks import Pair, StockAgent
from devkit.demo import conversation
from devkit.demo.caller import call
from devkit.demo.conversation import Entry
from devkit.progress import LogProgress
from tests import previous_release
from tests.bench.pod_cost import PodCost
from tests.bench.test_held_call import CALLS as HELD
from tests.bench.test_held_call import LANGUAGE, SETTLED_SECONDS, greeted_callers
from tests.e2e import agents
from tests.e2e.callers import says
from tests.e2e.conftest import NAME, Platform

CALLS = 10
LIMITS = {"first_word": 1.1, "answer": 1.1, "idle_mib": 1.05, "call_mib": 1.1}
"""Of the product's figure to the previous release's: what two runs of the same image may differ by."""

Figures = dict[str, float]


@contextmanager
def declared(platform: Platform, name: str, image: str) -> Iterator[str]:
    """Declare the stock agent with this image, or with the installation's for an empty string; yields its name."""
    worker = {"callsPerWorker": HELD, "maxCallMinutes": 15} | ({"image": image} if image else {})
    # The previous release does not ask silent callers, and does not know the field.
    changes: dict[str, Any] = {} if image else {"conversation": {"idlePromptSeconds": 0}}
    agent = agents.manifest(
        platform.targets,
        name,
        worker=worker,
        scaling=agents.ONE_WORKER,
        language=LANGUAGE,
        **changes,
    )
    with agents.declared(platform.product, agent):
        yield name


async def one_call(platform: Platform, agent: str, entry: Entry) -> Figures:
    """Return the seconds from the request to the first word, and from the end of the question to the answer."""
    async with await call(platform.gateway, agent, "Caller", language=LANGUAGE) as caller:
        await caller.first_word(30)
        await caller.hear(30)
        said_before = len(caller.captions)
        _, answer, _ = await conversation.ask(caller, entry.heading)
        await says(caller, entry.text, since=said_before)
        first_word = caller.moments.first_word - caller.moments.requested
        return {"first_word": first_word, "answer": answer.start - caller.last_word}


async def calls_in_turn(platform: Platform, names: Mapping[str, str], entry: Entry) -> dict[str, Figures]:
    """Call each agent again and again; return the medians by side."""
    taken = defaultdict[str, list[Figures]](list)
    for _ in range(CALLS):
        for side, agent in names.items():
            taken[side].append(await one_call(platform, agent, entry))
    return {
        side: {figure: statistics.median(each[figure] for each in calls) for figure in calls[0]}
        for side, calls in taken.items()
    }


async def memory(platform: Platform, agent: str) -> Figures:
    """Return the memory of the idle worker, and its growth with each call, in MiB."""
    (worker,) = agents.workers(platform.product, agent)
    pod = PodCost(NAME, worker["metadata"]["uid"])
    await asyncio.sleep(SETTLED_SECONDS)
    idle = pod.memory_mib()
    async with AsyncExitStack() as stack:
        await greeted_callers(stack, partial(call, platform.gateway, agent, "Caller", language=LANGUAGE))
        return {"idle_mib": idle, "call_mib": (pod.memory_mib() - idle) / HELD}


async def measure(platform: Platform, names: Mapping[str, str], entry: Entry) -> dict[str, Figures]:
    held = {side: await memory(platform, agent) for side, agent in names.items()}
    taken = await calls_in_turn(platform, names, entry)
    return {side: held[side] | taken[side] for side in names}


@pytest.mark.timeout(1200)
def test_stock_agent_is_no_worse_than_that_of_the_previous_release(platform: Platform, tmp_path: Path) -> None:
    image = previous_release.image("worker", previous_release.checked_out(tmp_path / "previous"))
    clusters.load_images(NAME, [image], LogProgress())
    knowledge = platform.product.get("configmap", "ornina-knowledge")["data"]["en.md"]
    entry = conversation.entries(knowledge)[0]
    with declared(platform, "stock", "") as stock, declared(platform, "previous", image) as previous:
        taken = asyncio.run(measure(platform, {"product": stock, "previous": previous}, entry))
    pairs = {what: Pair(product=taken["product"][what], peer=taken["previous"][what]).rounded(2) for what in LIMITS}
    print(f"\n{'stock agent':24}{'product':>10}{'previous':>10}{'ratio':>10}{'limit':>10}")
    for what, pair in pairs.items():
        print(f"{what:24}{pair.product:10.2f}{pair.peer:10.2f}{pair.ratio:10.2f}{LIMITS[what]:10.2f}")
    missed = [what for what, pair in pairs.items() if pair.ratio > LIMITS[what]]
    assert not missed, "the stock agent is worse than that of the previous release"
    benchmarks.record(StockAgent(run=benchmarks.this_run(), calls=CALLS, held_calls=HELD, limits=LIMITS, **pairs))
