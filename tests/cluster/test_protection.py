"""Pods with calls carry the annotations that keep node autoscalers away, and idle pods do not."""

import pytest

from controller.policy.podannotations import PROTECTION
from tests.cluster.process import RunningController
from tests.cluster.world import World
from tests.waiting import eventually

EVICT, DISRUPT = PROTECTION


async def annotations(world: World) -> dict[str, str]:
    """The annotations of the only pod that protect it."""
    (pod,) = await world.pods("ava")
    present = pod["metadata"].get("annotations") or {}
    return {name: value for name, value in present.items() if name in PROTECTION}


async def has(world: World, expected: dict[str, str]) -> None:
    async def look() -> bool:
        return await annotations(world) == expected

    await eventually(look, f"the pod has {expected}")


async def test_pod_is_protected_while_it_has_calls(world: World, controller: RunningController) -> None:
    (worker,) = await world.running("ava")
    assert await annotations(world) == {}
    worker.calls = 1
    await has(world, dict(PROTECTION))
    (pod,) = await world.pods("ava")
    await controller.reconciles(world, "ava", 5)
    (later,) = await world.pods("ava")
    assert later["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"], "nothing is written again"
    worker.calls = 0
    await has(world, {})
    assert await world.rollouts("ava") == 1


async def test_pod_that_finishes_its_calls_is_protected(world: World, controller: RunningController) -> None:
    (worker,) = await world.running("ava")
    worker.calls = 1
    await has(world, dict(PROTECTION))
    await world.declare("ava", suspend=True)
    await world.becomes("ava", "False", "Suspended")
    await controller.reconciles(world, "ava", 2)
    assert await annotations(world) == PROTECTION
    worker.calls = 0


@pytest.mark.parametrize("value", ["true", "false"])
async def test_annotation_of_the_manifest_stays(world: World, controller: RunningController, value: str) -> None:
    (worker,) = await world.running("ava", worker={"pod": {"annotations": {EVICT: value}}})
    assert await annotations(world) == {EVICT: value}
    worker.calls = 1
    await has(world, {EVICT: value, DISRUPT: "true"})
    worker.calls = 0
    await has(world, {EVICT: value})
