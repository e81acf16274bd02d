"""The API server stops, compacts its history, or sends nothing: later it applies all edits, and no call is cut."""

import asyncio
from collections.abc import Callable

import pytest

from devkit.cluster import Cluster
from kube.kinds import AVATAR_AGENT, DEPLOYMENT
from tests.cluster.background import Stage
from tests.cluster.staged import staged
from tests.cluster.standin import Worker
from tests.cluster.threads import entered
from tests.cluster.world import DISRUPTION_BUDGET, World
from tests.waiting import eventually

OUTAGE_SECONDS = 120.0
BETWEEN_EDITS_SECONDS = 5.0
"""Long enough for the first edit to begin a rollout."""
APPLIED_SECONDS = 60.0
"""Includes 15 s until watches are retried, 15 s until a lost Lease expires, and the wait for further changes."""
BLACKHOLE_SECONDS = 100.0
"""Includes 70 s until a silent watch is closed (bookmarks come every 60 s) and 30 s until a request times out."""
KUBERNETES_SECONDS = 150.0
"""Time for Kubernetes' controllers to create pods and delete children.

They retry a lost API server after up to a minute (client-go's Reflector: 30 s and as much jitter), one after the other.
"""

PRESENT = ("edited", "bereft", "new")
"""Agents that exist at the end."""

pytestmark = pytest.mark.timeout(900)


async def api_server_stopped(stage: Stage) -> None:
    """Stop the API server for two minutes; then edit while the controller cannot open watches."""
    async with (
        stage.cluster() as (cluster, kubeconfig),
        staged(cluster, stage.openai, kubeconfig, stage.folder, "outage") as (world, proxy, controller),
    ):
        talking = await _agents(world)
        await _stop_api_server(cluster, OUTAGE_SECONDS)
        proxy.cut_watches()
        await world.standin.sees_pods()
        assert world.standin.is_in_call(talking), "the outage cut no call"
        await world.declare("edited", persona={"greeting": "Good morning"})
        await asyncio.sleep(BETWEEN_EDITS_SECONDS)
        await _edit(world)
        proxy.allow_watches()
        await _wait_applied(world, talking, APPLIED_SECONDS)
        assert len(controller.starts) <= 2, "the Lease may be lost once"
        assert controller.unexpected() == []


async def history_compacted(stage: Stage) -> None:
    """Compact the history so that watches get 410 Gone and the controller lists everything again."""
    async with stage.cluster() as (cluster, kubeconfig):
        # With its cache the API server remembers for a while what etcd has forgotten.
        await _stop_api_server(cluster, 0, "--watch-cache=false")
        stages = staged(cluster, stage.openai, kubeconfig, stage.folder, "compacted")
        async with stages as (world, proxy, controller):
            talking = await _agents(world)
            proxy.cut_watches()
            await _edit(world)
            await asyncio.to_thread(cluster.compact)
            proxy.allow_watches()
            await _wait_applied(world, talking, APPLIED_SECONDS)
            assert proxy.gone > 0, "a watch got 410"
            assert len(controller.starts) == 1
            assert controller.unexpected() == []


async def watch_blackholed(stage: Stage) -> None:
    """Stop the traffic on open connections without closing them; new ones work."""
    async with (
        stage.cluster() as (cluster, kubeconfig),
        staged(cluster, stage.openai, kubeconfig, stage.folder, "blackhole") as (world, proxy, controller),
    ):
        talking = await _agents(world)
        assert proxy.blackhole() > 0, "a watch uses a blackholed connection"
        await _edit(world)
        await _wait_applied(world, talking, BLACKHOLE_SECONDS)
        assert controller.unexpected() == []


@pytest.mark.background.with_args(api_server_stopped)
def test_edits_after_two_minute_outage_are_applied_and_cut_no_call(outcome: Callable[[float], None]) -> None:
    outcome(600)


@pytest.mark.background.with_args(history_compacted)
def test_edits_before_a_compaction_are_applied(outcome: Callable[[float], None]) -> None:
    outcome(600)


@pytest.mark.background.with_args(watch_blackholed)
def test_edits_during_a_blackholed_watch_are_applied(outcome: Callable[[float], None]) -> None:
    outcome(600)


async def _agents(world: World) -> Worker:
    """Declare agents; return the worker of the one to be edited, which has a call."""
    (talking,) = await world.running("edited")
    await world.running("deleted")
    await world.running("bereft")
    talking.calls = 1
    await world.settles("edited", calls=1)
    return talking


async def _edit(world: World) -> None:
    """Edit, delete and create agents, and delete children."""
    await world.declare("edited", persona={"greeting": "Good evening"})
    await world.remove(AVATAR_AGENT, "deleted")
    await world.declare("new")
    for kind in (DEPLOYMENT, DISRUPTION_BUDGET):
        await world.remove(kind, "bereft-worker")


async def _wait_applied(world: World, talking: Worker, seconds: float) -> None:
    """Wait until all edits are applied in time, and Kubernetes has replaced workers and deleted children."""

    async def applied() -> bool:
        wanted = {f"{kind.kind}/{agent}-worker" for kind in (DEPLOYMENT, DISRUPTION_BUDGET) for agent in PRESENT}
        return wanted <= await world.child_names() and "Good evening" in await world.declared_configuration("edited")

    async def replaced() -> bool:
        new = world.standin.of("edited")
        return len(new) == 1 and talking.draining and "Good evening" in await world.configuration(new[0].pod)

    await eventually(applied, "every manifest is applied", seconds)
    await eventually(replaced, "a new worker has the last greeting", KUBERNETES_SECONDS)
    assert world.standin.is_in_call(talking), "the old worker keeps its call"
    assert await world.rollouts("edited") == 2, "one rollout"
    for agent in ("new", "bereft"):
        await world.becomes(agent, "True", seconds=KUBERNETES_SECONDS)
    await eventually(lambda: world.nothing_of("deleted"), "the deleted one's children are gone", KUBERNETES_SECONDS)


async def _stop_api_server(cluster: Cluster, seconds: float, *options: str) -> None:
    """Stop the API server for a while; return when it serves again."""
    async with entered(cluster.api_server_stopped(*options)):
        await asyncio.sleep(seconds)
