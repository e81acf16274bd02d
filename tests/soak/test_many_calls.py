"""200 calls, one after the other, through one worker: each is answered, and nothing is left over."""

import asyncio

import pytest

from devkit.demo.caller import Caller, hang_up, request_call
from tests.e2e import agents
from tests.e2e.conftest import NAME, Platform
from tests.e2e.test_seats import conversations
from tests.soak.footprint import Footprint, footprint
from tests.waiting import eventually_blocking

CALLS = 200
SETTLED_CALLS = 20
"""After these, the worker has allocated and loaded what it keeps."""
FIRST_WORD_SECONDS = 20.0
LEFT_FILES = 10
"""Descriptors that the pod may hold more than before: connections of probes, of scrapes and of the controller."""
MEMORY_RATIO = 1.1

pytestmark = pytest.mark.timeout(2400)


async def short_call(platform: Platform, agent: str, number: int) -> None:
    """Call, hear the first word, and hang up as the call page does."""
    name = f"Caller {number}"
    answer, moments = await request_call(platform.gateway, agent, name)
    async with Caller(name=name, url=answer["url"], token=answer["token"], moments=moments) as caller:
        await caller.first_word(FIRST_WORD_SECONDS)
        await hang_up(platform.gateway, answer)


async def calls(platform: Platform, agent: str, numbers: range) -> None:
    for number in numbers:
        await short_call(platform, agent, number)


def test_200_calls_leave_nothing_over_in_their_worker(platform: Platform) -> None:
    product, before = platform.product, conversations(platform)
    agent = agents.manifest(
        platform.targets,
        "many",
        avatar=True,
        worker={"callsPerWorker": 4, "maxCallMinutes": 5},
        scaling=agents.ONE_WORKER,
    )

    def begun() -> dict[str, str]:
        return {name: status for name, status in conversations(platform).items() if name not in before}

    def is_idle() -> bool:
        counts = product.get("avataragent", "many")["status"]["calls"]
        return (counts["active"], counts["pending"]) == (0, 0) and "active" not in begun().values()

    def settled(uid: str) -> Footprint:
        eventually_blocking(is_idle, "no call and no conversation at Tavus is left", 60)
        return footprint(NAME, uid)

    with agents.declared(product, agent):
        (pod,) = agents.workers(product, "many")
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        asyncio.run(calls(platform, "many", range(SETTLED_CALLS)))
        first = settled(uid)
        asyncio.run(calls(platform, "many", range(SETTLED_CALLS, CALLS)))

        def processes_are_back() -> bool:
            return settled(uid).processes <= first.processes

        eventually_blocking(processes_are_back, f"{first.processes} processes are left", 60)
        last = settled(uid)
        print(f"\nafter {SETTLED_CALLS} calls: {first}\nafter {CALLS} calls: {last}")
        assert len(begun()) == CALLS, "each call had one avatar"
        assert last.open_files <= first.open_files + LEFT_FILES
        assert last.temporary_files <= first.temporary_files
        assert last.megabytes <= MEMORY_RATIO * first.megabytes
        assert agents.worker_names(product, "many") == [name]
        assert product.get("pod", name)["status"]["containerStatuses"][0]["restartCount"] == 0
