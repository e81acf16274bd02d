"""An AvatarAgent deleted between the first list and the watch, so that no event reports its deletion."""

import asyncio

import pytest

from kube.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, POD_DISRUPTION_BUDGET
from tests.unit.controller.builders import SPEC
from tests.unit.controller.world import KEY, World, played


def collect_garbage(world: World) -> bool:
    """Delete the children of deleted owners as Kubernetes does; False: there were none."""
    there = [
        (kind, name) for kind in (CONFIG_MAP, POD_DISRUPTION_BUDGET, DEPLOYMENT) for name in world.server.names(kind)
    ]
    for kind, name in there:
        world.server.remove(kind, "shop", name)
    return bool(there)


@pytest.mark.parametrize("settled", [True, False])
def test_children_are_created_again_at_most_once(monkeypatch: pytest.MonkeyPatch, settled: bool) -> None:
    async def scenario(world: World) -> None:
        if settled:
            await world.rolled_out()
        world.server.remove(AVATAR_AGENT, "shop", "ava")
        world.changed.clear()
        collected = 0
        again_in: float | None = 0.0
        for _ in range(20):
            collected += collect_garbage(world)
            again_in = await world.reconcile()
        assert collected <= 2
        assert world.agents.get(KEY) is None
        assert again_in is None, "it is not requeued"
        assert KEY in world.changed, "whoever waits for its name is told, and so is the queue"
        assert KEY not in world.fleet.agents
        refused = world.server.requests["apply", "AvatarAgent"]
        await asyncio.sleep(600)
        assert world.server.requests["apply", "AvatarAgent"] == refused

    played(monkeypatch, scenario)


def test_deleted_deployment_is_restored_after_one_read_of_the_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        assert world.server.requests["get", "AvatarAgent"] == 0
        for deletions in (1, 2):
            world.server.remove(DEPLOYMENT, "shop", "ava-worker")
            await world.rolled_out()
            assert world.server.names(DEPLOYMENT) == {"ava-worker"}
            assert world.server.requests["get", "AvatarAgent"] == deletions

    played(monkeypatch, scenario)


def test_unreported_successor_with_the_same_name_is_a_new_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        world.server.remove(AVATAR_AGENT, "shop", "ava")
        metadata = {"namespace": "shop", "name": "ava", "uid": "uid-new", "creationTimestamp": "2026-01-09T00:00:00Z"}
        written = world.server.put(AVATAR_AGENT, {"metadata": metadata, "spec": SPEC})
        collect_garbage(world)
        await world.reconcile()
        assert world.agents.get(KEY) is None
        world.agents.update(written)
        await world.rolled_out()
        assert world.workers["metadata"]["ownerReferences"][0]["uid"] == "uid-new"

    played(monkeypatch, scenario)
