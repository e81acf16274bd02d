"""Two nodes: workers on either answer calls, and a lost node leaves no caller without an agent."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.e2e import agents
from tests.e2e.callers import answered, greeted
from tests.e2e.conftest import Platform, installed
from tests.waiting import eventually_blocking

NAME = "nodes"
OTHER = f"{NAME}.2"
"""The node without the control plane."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Platform]:
    # Only workers may be lost with the other node.
    here = [f"{component}.nodeSelector.kubernetes\\.io/hostname={NAME}" for component in ("controller", "gateway")]
    with installed(NAME, *here, nodes=2) as platform:
        yield platform


def nodes_of(platform: Platform, agent: str) -> list[str]:
    return [pod["spec"].get("nodeName", "") for pod in agents.workers(platform.product, agent)]


def test_worker_on_either_node_answers(two_nodes: Platform) -> None:
    async def ask(agent: str) -> None:
        async with AsyncExitStack() as stack:
            await answered(await greeted(stack, two_nodes, agent, "Caller"))

    for number, node in enumerate((NAME, OTHER)):
        worker = {"callsPerWorker": 1, "maxCallMinutes": 5, "pod": {"nodeSelector": {"kubernetes.io/hostname": node}}}
        agent = agents.manifest(two_nodes.targets, f"on-{number}", worker=worker)
        with agents.declared(two_nodes.product, agent) as name:
            assert set(nodes_of(two_nodes, name)) == {node}
            asyncio.run(ask(name))


def cordoned(platform: Platform, node: str, *, on: bool) -> None:
    platform.product.kubectl_run("cordon" if on else "uncordon", node)


def test_caller_is_answered_when_the_only_worker_is_on_a_lost_node(two_nodes: Platform) -> None:
    product = two_nodes.product
    worker: dict[str, Any] = {"callsPerWorker": 2, "maxCallMinutes": 5}
    scaling = {"minWorkers": 1, "maxWorkers": 2, "freeSlots": 0, "scaleDownDelaySeconds": 30}
    cordoned(two_nodes, NAME, on=True)
    try:
        product.apply([agents.manifest(two_nodes.targets, "lost", worker=worker, scaling=scaling)])
        product.wait_ready("lost", agents.READY_SECONDS)
    finally:
        cordoned(two_nodes, NAME, on=False)
    assert nodes_of(two_nodes, "lost") == [OTHER]

    async def call() -> None:
        async with AsyncExitStack() as stack:
            await greeted(stack, two_nodes, "lost", "Caller")

    with agents.declared(product, agents.manifest(two_nodes.targets, "lost", worker=worker, scaling=scaling)) as name:
        with two_nodes.cluster.node_lost(2):
            asyncio.run(call())
            assert NAME in nodes_of(two_nodes, name)
        eventually_blocking(lambda: len(agents.workers(product, name)) == 1, "one worker is left", 120)
