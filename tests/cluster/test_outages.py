"""The API server goes away, forgets the past, or falls silent: edits made meanwhile are applied, calls go on."""

import asyncio
from collections.abc import Callable

import pytest

from controller.cluster.kinds import AVATAR_AGENT, DEPLOYMENT
from devkit.cluster import Cluster
from tests.cluster.background import Stage
from tests.cluster.kept import kept
from tests.cluster.proxy import proxied
from tests.cluster.standin import Worker
from tests.cluster.world import DISRUPTION_BUDGET, World, eventually, open_world

OUTAGE_SECONDS = 120.0
BETWEEN_EDITS_SECONDS = 5.0
"""Long enough for the first edit to be on its way into a roll-out."""
APPLIED_SECONDS = 60.0
"""Watches are tried again after 15 s at most, a Lease that was lost runs for 15 s, and a burst is waited out."""
BLACKHOLE_SECONDS = 100.0
"""Bookmarks come every 60 s: after 70 s of silence a connection is given up; requests are after 30 s."""

pytestmark = pytest.mark.timeout(900)


async def api_server_stopped(stage: Stage) -> None:
    """Two minutes without an API server; then edits are made while the controller's watches cannot be opened."""
    async with (
        stage.cluster() as (cluster, kubeconfig),
        proxied(kubeconfig, stage.folder / "proxy") as (proxy, through),
        open_world(cluster, stage.openai, "outage") as world,
        kept(through, stage.folder, world.namespace) as controller,
    ):
        for name in ("edited", "deleted", "bereft"):
            await world.declare(name)
            await world.becomes(name, "True")
        talking = _in_a_call(world, "edited")
        await _stop_api_server(cluster, OUTAGE_SECONDS)
        proxy.cut_watches()
        assert world.standin.workers[talking.pod] is talking, "the call goes on"
        await world.declare("edited", persona={"greeting": "Good morning"})
        await world.remove(AVATAR_AGENT, "deleted")
        await world.declare("new")
        await asyncio.sleep(BETWEEN_EDITS_SECONDS)
        await world.declare("edited", persona={"greeting": "Good evening"})
        await world.remove(DEPLOYMENT, "bereft-worker")
        proxy.mend_watches()
        await world.becomes("new", "True", seconds=APPLIED_SECONDS)
        await _is_applied(world, "edited", "Good evening", talking)
        await eventually(lambda: world.nothing_of("deleted"), "the deleted one's children are gone", APPLIED_SECONDS)
        await eventually(lambda: world.deployment("bereft"), "the deleted Deployment is back", APPLIED_SECONDS)
        assert len(controller.starts) <= 2, "the Lease may be lost once"
        assert controller.unexpected() == []


async def history_compacted(stage: Stage) -> None:
    """What the watches would go on from does not exist any more (410 Gone): everything is listed again."""
    async with stage.cluster() as (cluster, kubeconfig):
        # With its cache the API server remembers for a while what etcd has forgotten.
        await _stop_api_server(cluster, 0, "--watch-cache=false")
        async with (
            proxied(kubeconfig, stage.folder / "proxy") as (proxy, through),
            open_world(cluster, stage.openai, "compacted") as world,
            kept(through, stage.folder, world.namespace) as controller,
        ):
            for name in ("edited", "deleted", "bereft"):
                await world.declare(name)
                await world.becomes(name, "True")
            talking = _in_a_call(world, "edited")
            proxy.cut_watches()
            await world.declare("edited", persona={"greeting": "Good evening"})
            await world.remove(AVATAR_AGENT, "deleted")
            await world.declare("new")
            for kind in (DEPLOYMENT, DISRUPTION_BUDGET):
                await world.remove(kind, "bereft-worker")
            await asyncio.to_thread(cluster.compact)
            proxy.mend_watches()
            await world.becomes("new", "True", seconds=APPLIED_SECONDS)
            await _is_applied(world, "edited", "Good evening", talking)
            await eventually(
                lambda: world.nothing_of("deleted"), "the deleted one's children are gone", APPLIED_SECONDS
            )
            await eventually(lambda: _whole(world, "bereft"), "deleted children are back", APPLIED_SECONDS)
            assert proxy.gone > 0, "some watch was told 410"
            assert len(controller.starts) == 1
            assert controller.unexpected() == []


async def watch_blackholed(stage: Stage) -> None:
    """Open connections carry nothing any more and nobody closes them; new ones work."""
    async with (
        stage.cluster() as (cluster, kubeconfig),
        proxied(kubeconfig, stage.folder / "proxy") as (proxy, through),
        open_world(cluster, stage.openai, "blackhole") as world,
        kept(through, stage.folder, world.namespace) as controller,
    ):
        for name in ("edited", "deleted", "bereft"):
            await world.declare(name)
            await world.becomes(name, "True")
        talking = _in_a_call(world, "edited")
        assert proxy.blackhole() > 0, "some watch is on a connection that is blackholed"
        await world.declare("edited", persona={"greeting": "Good evening"})
        await world.remove(AVATAR_AGENT, "deleted")
        await world.declare("new")
        for kind in (DEPLOYMENT, DISRUPTION_BUDGET):
            await world.remove(kind, "bereft-worker")
        await world.becomes("new", "True", seconds=BLACKHOLE_SECONDS)
        await _is_applied(world, "edited", "Good evening", talking)
        await eventually(lambda: world.nothing_of("deleted"), "the deleted one's children are gone", APPLIED_SECONDS)
        await eventually(lambda: _whole(world, "bereft"), "deleted children are back", BLACKHOLE_SECONDS)
        assert controller.unexpected() == []


@pytest.mark.background.with_args(api_server_stopped)
def test_edits_after_an_outage_of_two_minutes_are_applied_and_calls_go_on(outcome: Callable[[float], None]) -> None:
    outcome(600)


@pytest.mark.background.with_args(history_compacted)
def test_edits_that_no_watch_can_tell_of_are_applied(outcome: Callable[[float], None]) -> None:
    outcome(600)


@pytest.mark.background.with_args(watch_blackholed)
def test_edits_during_a_silent_watch_are_applied(outcome: Callable[[float], None]) -> None:
    outcome(600)


def _in_a_call(world: World, agent: str) -> Worker:
    (worker,) = world.standin.of(agent)
    worker.calls = 1
    return worker


async def _stop_api_server(cluster: Cluster, seconds: float, *options: str) -> None:
    """Stop it for a while; returns when it serves again."""
    outage = cluster.api_server_stopped(*options)
    await asyncio.to_thread(outage.__enter__)
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(outage.__exit__, None, None, None)


async def _is_applied(world: World, agent: str, greeting: str, talking: Worker) -> None:
    """A new worker has the greeting in its configuration; the old one drains, and still has its call."""

    async def applied() -> bool:
        new = world.standin.of(agent)
        return len(new) == 1 and talking.draining and greeting in await world.configuration(new[0].pod)

    await eventually(applied, f"{agent} greets with {greeting!r}", APPLIED_SECONDS)
    assert world.standin.workers[talking.pod] is talking, "the call goes on"
    assert await world.roll_outs(agent) == 2, "one roll-out"


async def _whole(world: World, agent: str) -> bool:
    children = await world.children()
    return {f"Deployment/{agent}-worker", f"PodDisruptionBudget/{agent}-worker"} <= children
