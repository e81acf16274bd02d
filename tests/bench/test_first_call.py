"""Time from request to joined and to the first audible word, beside a bare livekit-agents worker, in one run.

The peer is a hand-written worker with the same providers and greeting, and a back end that creates the room with its
dispatch through LiveKit's API. Both use the same simulated synthesiser, without an avatar.
"""

import asyncio
import statistics
from pathlib import Path

import pytest

from devkit import benchmarks
from devkit.benchmarks import FirstCall, Pair
from devkit.demo.caller import Caller, call
from tests.e2e import agents
from tests.e2e.bare import bare_call, bare_worker
from tests.e2e.conftest import Platform

CALLS = 10
RATIO = 1.25
"""Limit of the product's time until the first word, to the peer's."""
PEER = "bare-agent"


async def measure(caller: Caller) -> tuple[float, float]:
    """Return the seconds from the request until the agent joined, and until the first audible word."""
    async with caller:
        await caller.agent_joined(30)
        await caller.first_word(30)
        await caller.hear(30)
        return caller.moments.joined - caller.moments.requested, caller.moments.first_word - caller.moments.requested


async def in_turn(platform: Platform, agent: str) -> dict[str, list[tuple[float, float]]]:
    taken: dict[str, list[tuple[float, float]]] = {"product": [], "bare": []}
    for _ in range(CALLS):
        taken["product"].append(await measure(await call(platform.gateway, agent, "Caller")))
        taken["bare"].append(await measure(await bare_call(platform, PEER)))
    return taken


@pytest.mark.timeout(600)
def test_first_word_is_not_later_than_from_a_bare_worker(platform: Platform, tmp_path: Path) -> None:
    worker = {"callsPerWorker": 4, "maxCallMinutes": 5}
    scaling = agents.ONE_WORKER
    declaration = agents.manifest(platform.targets, "bench", worker=worker, scaling=scaling)
    greeting = declaration["spec"]["persona"]["greeting"]
    with (
        agents.declared(platform.product, declaration) as agent,
        bare_worker(platform, PEER, tmp_path / "jobs", greeting),
    ):
        taken = asyncio.run(in_turn(platform, agent))
    medians = {
        side: [statistics.median(call[step] for call in calls) for step in (0, 1)] for side, calls in taken.items()
    }
    pairs = [Pair(product=medians["product"][step], peer=medians["bare"][step]).rounded(2) for step in (0, 1)]
    print(f"\n{CALLS} calls each, in turn; medians of seconds from the request")
    print(f"{'':24}{'product':>10}{'bare':>10}{'ratio':>10}")
    for what, pair in zip(("joined", "first audible word"), pairs, strict=True):
        print(f"{what:24}{pair.product:10.2f}{pair.peer:10.2f}{pair.ratio:10.2f}")
    ratio = medians["product"][1] / medians["bare"][1]
    assert ratio < RATIO, "a caller of the product waits longer for the first word than a caller of a bare worker"
    joined, first_word = pairs
    benchmarks.record(
        FirstCall(
            run=benchmarks.this_run(), calls=CALLS, joined=joined, first_word=first_word, first_word_ratio_limit=RATIO
        )
    )
