"""An AvatarAgent whose end nobody told of: it went after the first list, and before it was watched."""

import asyncio

import pytest

from kube.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, POD_DISRUPTION_BUDGET
from tests.unit.controller.builders import SPEC
from tests.unit.controller.world import KEY, World, played


def collect_garbage(world: World) -> bool:
    """Kubernetes removes what belongs to an owner that is gone; false: there was nothing."""
    there = [
        (kind, name) for kind in (CONFIG_MAP, POD_DISRUPTION_BUDGET, DEPLOYMENT) for name in world.server.names(kind)
    ]
    for kind, name in there:
        world.server.remove(kind, "shop", name)
    return bool(there)


@pytest.mark.parametrize("settled", [True, False])
def test_its_children_are_made_once_more_at_most(monkeypatch: pytest.MonkeyPatch, settled: bool) -> None:
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
        assert again_in is None, "it is not looked at any more"
        assert KEY in world.changed, "whoever waits for its name is told, and so is the queue"
        assert KEY not in world.fleet.agents
        refused = world.server.requests["apply", "AvatarAgent"]
        await asyncio.sleep(600)
        assert world.server.requests["apply", "AvatarAgent"] == refused

    played(monkeypatch, scenario)


def test_a_deployment_that_somebody_deletes_comes_back_and_its_agent_is_asked_for_once(
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


def test_a_namesake_that_was_not_told_of_either_is_another_agent(monkeypatch: pytest.MonkeyPatch) -> None:
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
