"""The start of a worker, beside a bare livekit-agents worker, in one run: time, processor time and memory.

Both register with a simulated LiveKit, with the same providers. The peer keeps one idle call process, the product two.
"""

import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from devkit import benchmarks
from devkit.benchmarks import Pair, WorkerStart
from devkit.paths import REPOSITORY
from tests.unit.worker.fake_livekit import FakeLiveKit, fake_livekit
from tests.unit.worker.worker_process import (
    WORKER_COMMAND,
    process_group,
    processes_of,
    proportional_megabytes,
    worker_environment,
)
from tests.waiting import eventually

STARTS = 3
TOGETHER = 3
START_SECONDS = 120.0
SETTLED_SECONDS = 2.0
"""Time after the registration until nothing of the start is left to do."""
LIMITS = {"alone": 0.9, "together": 0.9, "processor": 0.75, "memory_mib": 1.0}
"""Of the product's figure to the peer's."""
PEER_COMMAND = (sys.executable, str(REPOSITORY / "tests" / "e2e" / "bare_worker.py"))


@dataclass(frozen=True)
class Start:
    """What one start took."""

    seconds: float
    processor: float
    memory_mib: float


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


async def has_registered(livekit: FakeLiveKit, workers: int) -> bool:
    return len(livekit.registrations) >= workers


async def start(command: Sequence[str], livekit: FakeLiveKit, folder: Path, workers: int = 1) -> Start:
    """Start one worker with its files in `folder`, and wait until as many as `workers` are registered."""
    bare = {"LIVEKIT_URL": livekit.url, "BARE_AGENT_NAME": "bare", "BARE_JOBS_FILE": str(folder / "jobs")}
    began = monotonic()
    async with process_group(command, worker_environment(folder, livekit.url) | bare, folder / "log") as session:
        await eventually(partial(has_registered, livekit, workers), "registered", START_SECONDS)
        seconds = monotonic() - began
        await asyncio.sleep(SETTLED_SECONDS)
        processes = await asyncio.to_thread(processes_of, session)
        memory = await asyncio.to_thread(lambda: sum(map(proportional_megabytes, processes)))
        return Start(seconds, sum(processes.values()), memory)


async def start_together(command: Sequence[str], folder: Path) -> float:
    """Return the seconds until the last of several workers is registered."""
    async with fake_livekit() as livekit:
        folders = [make_folder(folder / str(number)) for number in range(TOGETHER)]
        starts = (start(command, livekit, own, TOGETHER) for own in folders)
        return max(taken.seconds for taken in await asyncio.gather(*starts))


async def start_alone(command: Sequence[str], folder: Path) -> Start:
    async with fake_livekit() as livekit:
        return await start(command, livekit, make_folder(folder))


async def measure(folder: Path) -> dict[str, Pair]:
    """Start both in turn, and return the medians."""
    alone: dict[str, list[Start]] = {"product": [], "peer": []}
    together: dict[str, list[float]] = {"product": [], "peer": []}
    for number in range(STARTS):
        for side, command in (("product", WORKER_COMMAND), ("peer", PEER_COMMAND)):
            alone[side].append(await start_alone(command, folder / side / f"alone-{number}"))
            together[side].append(await start_together(command, folder / side / f"together-{number}"))

    def pair(figure: str) -> Pair:
        mine, other = (statistics.median(getattr(taken, figure) for taken in starts) for starts in alone.values())
        return Pair(product=mine, peer=other)

    mine, other = (statistics.median(seconds) for seconds in together.values())
    return {
        "alone": pair("seconds"),
        "together": Pair(product=mine, peer=other),
        "processor": pair("processor"),
        "memory_mib": pair("memory_mib"),
    }


@pytest.mark.timeout(1200)
def test_worker_starts_sooner_and_at_less_cost_than_a_bare_one(tmp_path: Path) -> None:
    measured = {name: pair.rounded(2) for name, pair in asyncio.run(measure(tmp_path)).items()}
    print(f"\n{STARTS} starts each, in turn; medians")
    print(f"{'':24}{'product':>10}{'bare':>10}{'ratio':>10}{'limit':>10}")
    for name, pair in measured.items():
        print(f"{name:24}{pair.product:10.2f}{pair.peer:10.2f}{pair.ratio:10.2f}{LIMITS[name]:10.2f}")
    missed = [name for name, pair in measured.items() if pair.ratio > LIMITS[name]]
    assert not missed, "the product exceeds its limit"
    benchmarks.record(WorkerStart(run=benchmarks.this_run(), starts=STARTS, limits=LIMITS, **measured))
