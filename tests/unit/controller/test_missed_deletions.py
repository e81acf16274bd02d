"""AvatarAgents whose deletion no watch reported: it happened between the first list and the start of the watch."""

import asyncio

import pytest

from kube.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, POD_DISRUPTION_BUDGET
from tests.unit.controller.builders import KEY, SPEC
from tests.unit.controller.world import World


def collect_garbage(world: World) -> bool:
    """Delete the agent's children, as the garbage collector does; return whether there were any."""
    children = [
        (kind, name) for kind in (CONFIG_MAP, POD_DISRUPTION_BUDGET, DEPLOYMENT) for name in world.server.names(kind)
    ]
    for kind, name in children:
        world.server.remove(kind, "shop", name)
    return bool(children)


@pytest.mark.parametrize("settled", [True, False], ids=["rolled-out", "new"])
async def test_children_of_a_missed_deletion_are_created_at_most_once(world: World, settled: bool) -> None:
    if settled:
        await world.roll_out()
    world.server.remove(AVATAR_AGENT, "shop", "ava")
    world.changed.clear()
    collected = 0
    requeue_after: float | None = 0.0
    for _ in range(20):
        collected += collect_garbage(world)
        requeue_after = await world.reconcile()
    assert collected <= 2
    assert world.agents.get(KEY) is None
    assert requeue_after is None, "no reconcile is due"
    assert KEY in world.changed, "agents that wait for its name are enqueued"
    assert KEY not in world.fleet.agents
    writes = world.server.requests["apply", "AvatarAgent"]
    await asyncio.sleep(600)
    assert world.server.requests["apply", "AvatarAgent"] == writes


async def test_deleted_deployment_returns_after_one_read_of_its_agent(world: World) -> None:
    await world.roll_out()
    assert world.server.requests["get", "AvatarAgent"] == 0
    for deletions in (1, 2):
        world.server.remove(DEPLOYMENT, "shop", "ava-worker")
        await world.roll_out()
        assert world.server.names(DEPLOYMENT) == {"ava-worker"}
        assert world.server.requests["get", "AvatarAgent"] == deletions


async def test_unreported_namesake_is_another_agent(world: World) -> None:
    await world.roll_out()
    world.server.remove(AVATAR_AGENT, "shop", "ava")
    metadata = {"namespace": "shop", "name": "ava", "uid": "uid-new", "creationTimestamp": "2026-01-09T00:00:00Z"}
    written = world.server.put(AVATAR_AGENT, {"metadata": metadata, "spec": SPEC})
    collect_garbage(world)
    await world.reconcile()
    assert world.agents.get(KEY) is None
    world.agents.update(written)
    await world.roll_out()
    assert world.workers["metadata"]["ownerReferences"][0]["uid"] == "uid-new"
