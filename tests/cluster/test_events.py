"""Gateways hear of calls and of lost workers, from the controller with the chart's rights."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from agentspec.names import DEMAND_AUDIENCE
from agentspec.wire import WorkerCalls, read
from kube.kinds import POD
from tests.cluster.process import GATEWAY_NAME, RunningController
from tests.cluster.standin import FORCED, Worker
from tests.cluster.test_scaling import token
from tests.cluster.world import World
from tests.waiting import eventually

LOST_SECONDS = 10.0
"""Limit of the time until a lost worker is reported, on a busy machine."""


class Events:
    """What a gateway reads at the controller."""

    def __init__(self, response: aiohttp.ClientResponse, agent: str) -> None:
        self._response = response
        self._agent = agent

    async def next(self) -> WorkerCalls:
        """Return the next line about the agent, and skip heartbeats."""
        async with asyncio.timeout(LOST_SECONDS):
            while True:
                line = await self._response.content.readline()
                assert line, "the stream ended"
                if line.strip() and (calls := read(WorkerCalls, line)).agent == self._agent:
                    return calls


@asynccontextmanager
async def events(world: World, controller: RunningController) -> AsyncIterator[Events]:
    """Read the events about agent `ava`."""
    headers = {"Authorization": f"Bearer {token(world, GATEWAY_NAME, DEMAND_AUDIENCE)}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=LOST_SECONDS)
    url = f"{controller.url}/v1/events"
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Events(response, f"{world.namespace}/ava")


def calls_of(world: World, worker: Worker, *, calls: int, lost: bool = False) -> WorkerCalls:
    held = Worker(worker.pod, worker.agent, worker.agent_name, worker.slots, calls=calls).jobs()
    return WorkerCalls(agent=f"{world.namespace}/ava", worker=worker.pod, jobs=held, lost=lost)


async def test_gateway_hears_each_change_of_the_calls(world: World, controller: RunningController) -> None:
    (worker,) = await world.running("ava")
    async with events(world, controller) as stream:
        for calls in (1, 2, 0):
            worker.calls = calls
            changed = time.monotonic()
            assert await stream.next() == calls_of(world, worker, calls=calls)
            print(f"told {1000 * (time.monotonic() - changed):.0f} ms after the change")
        worker.calls = 1
        assert await stream.next() == calls_of(world, worker, calls=1)
        async with events(world, controller) as later:
            assert await later.next() == calls_of(world, worker, calls=1), "the present state comes first"
    worker.calls = 0


@pytest.mark.parametrize(
    ("how", "reason"), [("killed", "process_ended"), ("deleted by force", "pod_gone")], ids=["killed", "deleted"]
)
async def test_gateway_hears_at_once_that_a_worker_is_lost(
    world: World, controller: RunningController, how: str, reason: str
) -> None:
    (worker,) = await world.running("ava", scaling={"minWorkers": 1, "maxWorkers": 1})
    worker.calls = 2
    async with events(world, controller) as stream:
        assert await stream.next() == calls_of(world, worker, calls=2)
        lost = calls_of(world, worker, calls=2, lost=True)
        ended = time.monotonic()
        if how == "killed":
            await worker.kill()
        else:
            path = POD.path(world.namespace, worker.pod)
            await world.client._request("DELETE", path, {"gracePeriodSeconds": "0"})
        assert await stream.next() == lost
        print(f"{how}: told {1000 * (time.monotonic() - ended):.0f} ms after the end")
    if how == "deleted by force":

        async def is_cut() -> bool:
            return bool(world.standin.cut_calls)

        await eventually(is_cut, "the kubelet kills the worker")
        assert [cut.reason for cut in world.standin.cut_calls] == [FORCED]
        world.standin.cut_calls.clear()
    worker.calls = 0
    controller.logged("worker lost", agent=f"{world.namespace}/ava", pod=worker.pod, reason=reason, calls=2)


async def test_workers_that_drain_or_hang_are_not_lost(world: World, controller: RunningController) -> None:
    world.standin.slots = 4
    first, second = await world.running("ava", scaling={"minWorkers": 2, "maxWorkers": 2})
    first.calls = second.calls = 1
    async with events(world, controller) as stream:
        seen = [(await stream.next()).worker for _ in range(2)]
        assert sorted(seen) == sorted((first.pod, second.pod))
        second.awake.clear()
        await world.client._request("DELETE", POD.path(world.namespace, first.pod))
        await world.standin.sees_pods()
        first.calls = 0
        assert await stream.next() == calls_of(world, first, calls=0)

        async def is_gone() -> bool:
            return first.pod not in world.standin.workers

        await eventually(is_gone, "the drained worker ends")
        second.awake.set()
        second.calls = 0
        assert await stream.next() == calls_of(world, second, calls=0)
    assert controller.logged_at("worker lost", agent=f"{world.namespace}/ava") is None
