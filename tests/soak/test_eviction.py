"""A node autoscaler and a node drain while a call is on: they evict idle workers, and the call is not cut."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agentspec.names import AGENT_LABEL
from devkit.demo.product import AGENTS_NAMESPACE, Product
from devkit.errors import DevkitError
from tests.e2e import agents
from tests.e2e.callers import answered, greeted
from tests.e2e.conftest import Platform
from tests.waiting import eventually_in_thread

PROTECTION = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""What Cluster Autoscaler and Karpenter read, in their own spelling."""
SECONDS = 60.0
"""The longest wait: a call ends 10 s after its caller left, and its worker counts as idle 10 s later."""

pytestmark = pytest.mark.timeout(400)


def two_workers(platform: Platform, name: str) -> dict[str, Any]:
    return agents.manifest(
        platform.targets,
        name,
        worker={"callsPerWorker": 1, "maxCallMinutes": 5},
        scaling={"minWorkers": 2, "maxWorkers": 4, "freeSlots": 0},
    )


def protected(product: Product, agent: str) -> list[str]:
    """Return the names of the worker pods that have both annotations."""
    return [
        pod["metadata"]["name"]
        for pod in agents.workers(product, agent)
        if PROTECTION.items() <= pod["metadata"].get("annotations", {}).items()
    ]


def is_unmarked(product: Product, pod: str) -> bool:
    """Whether a pod has neither annotation."""
    return not PROTECTION.keys() & product.get("pod", pod)["metadata"].get("annotations", {}).keys()


def evict(product: Product, pod: str) -> None:
    """Request an eviction as node autoscalers and `kubectl drain` do. Raises DevkitError when it is refused."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": AGENTS_NAMESPACE}}
    address = f"/api/v1/namespaces/{AGENTS_NAMESPACE}/pods/{pod}/eviction"
    product.kubectl_run("create", "--raw", address, "-f", "-", stdin=json.dumps(eviction))


def may_lose_one(product: Product, agent: str) -> bool:
    """Whether both workers are ready, and Kubernetes knows it."""
    (budget,) = product.items("poddisruptionbudgets", f"{AGENT_LABEL}={agent}")
    return bool(budget.get("status", {}).get("disruptionsAllowed") == 1)


async def until(observe: Callable[[], object], what: str) -> float:
    """Wait for a state; return the seconds that it took."""
    began = time.monotonic()
    await eventually_in_thread(observe, what, SECONDS)
    return time.monotonic() - began


async def worker_of_the_call(platform: Platform, agent: str, room: str) -> tuple[str, str]:
    """Return the worker that holds the call, which is the only one with both annotations, and the idle one."""
    product = platform.product
    await until(lambda: may_lose_one(product, agent), "one worker may be evicted")
    await until(lambda: len(protected(product, agent)) == 1, "one worker has both annotations")
    (busy,) = protected(product, agent)
    (idle,) = set(agents.worker_names(product, agent)) - {busy}
    assert [line["room"] for line in agents.log(product, busy) if line["message"] == "room accepted"] == [room]
    assert is_unmarked(product, idle)
    return busy, idle


def test_idle_worker_is_evicted_and_the_one_with_a_call_is_spared(platform: Platform) -> None:
    product = platform.product

    async def scale_down(agent: str) -> None:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, agent, "Caller")
            busy, idle = await worker_of_the_call(platform, agent, caller.room.name)
            await answered(caller)
            await asyncio.to_thread(evict, product, idle)
            with pytest.raises(DevkitError, match="disruption budget"):
                await asyncio.to_thread(evict, product, busy)
            seconds = await until(lambda: idle not in agents.worker_names(product, agent), "the idle worker is gone")
            print(f"\nthe idle worker was gone {seconds:.1f} s after its eviction")
            await answered(caller)
            assert protected(product, agent) == [busy]
            assert "deletionTimestamp" not in product.get("pod", busy)["metadata"]
        seconds = await until(lambda: is_unmarked(product, busy), "both annotations are removed")
        print(f"both annotations were removed {seconds:.1f} s after the call")

    with agents.declared(product, two_workers(platform, "spared")) as name:
        asyncio.run(scale_down(name))


def test_evicted_worker_finishes_its_call(platform: Platform) -> None:
    product = platform.product

    async def drain(agent: str) -> None:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, agent, "Caller")
            busy, _ = await worker_of_the_call(platform, agent, caller.room.name)
            await answered(caller)
            await asyncio.to_thread(evict, product, busy)
            await until(lambda: len(agents.serving(product, agent)) == 2, "another worker takes its place")
            await answered(caller)
            assert "deletionTimestamp" in product.get("pod", busy)["metadata"]
            assert busy in protected(product, agent)
            assert len(caller.agents) == 1, "no other agent took the call over"
        seconds = await until(lambda: busy not in agents.worker_names(product, agent), "the evicted worker is gone")
        print(f"\nthe evicted worker was gone {seconds:.1f} s after its call")

    with agents.declared(product, two_workers(platform, "evicted")) as name:
        asyncio.run(drain(name))
