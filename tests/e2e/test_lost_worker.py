"""The controller notices at once that a worker with a call is lost."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import pytest

from devkit.demo.product import AGENTS_NAMESPACE, SYSTEM_NAMESPACE, Product
from tests.e2e import agents
from tests.e2e.callers import greeted
from tests.e2e.conftest import NAME, Platform
from tests.e2e.killing import kill_worker
from tests.waiting import eventually_in_thread

pytestmark = pytest.mark.timeout(400)

NOTICED_SECONDS = 10.0
"""Limit on a busy machine, from the end of the worker until the controller reports it. Usual are some milliseconds, and
LiveKit notices it after 22 s."""


def lost_workers(product: Product, pod: str) -> list[dict[str, Any]]:
    """The controller's log lines about a lost worker."""
    selector = "app.kubernetes.io/component=controller"
    log = product.kubectl_run("-n", SYSTEM_NAMESPACE, "logs", "-l", selector, "--tail=-1")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == "worker lost" and line["pod"] == pod]


def kill(product: Product, pod: dict[str, Any]) -> None:
    """Kill the worker's container."""
    kill_worker(NAME, pod)


def delete(product: Product, pod: dict[str, Any]) -> None:
    """Delete the pod by force."""
    name = f"pod/{pod['metadata']['name']}"
    product.kubectl_run("-n", AGENTS_NAMESPACE, "delete", name, "--force", "--grace-period=0", "--wait=false")


@pytest.mark.parametrize(
    ("end", "reason"), [(kill, "process_ended"), (delete, "pod_gone")], ids=["killed", "deleted by force"]
)
def test_lost_worker_with_a_call_is_noticed_at_once(
    platform: Platform, end: Callable[[Product, dict[str, Any]], None], reason: str
) -> None:
    product = platform.product

    async def lose_the_worker(agent: str) -> None:
        async with AsyncExitStack() as staying:
            await greeted(staying, platform, agent, "Layla")
            (pod,) = agents.workers(product, agent)
            ended = time.time()
            await asyncio.to_thread(end, product, pod)
            pod_name = pod["metadata"]["name"]
            (line,) = await eventually_in_thread(lambda: lost_workers(product, pod_name), "the worker is lost", 30)
            assert (line["reason"], line["calls"]) == (reason, 1)
            seconds = datetime.fromisoformat(line["time"]).timestamp() - ended
            print(f"\n{reason}: noticed after {1000 * seconds:.0f} ms")
            assert seconds < NOTICED_SECONDS

    with agents.declared(product, agents.one_slot(platform.targets, f"lost-{reason.partition('_')[0]}")) as name:
        asyncio.run(lose_the_worker(name))
