"""An autoscaler or a script that sets the workers' replicas is named, and pods do not come and go."""

import asyncio

from agentspec import ConditionType
from kube.kinds import EVENT
from tests.cluster.instance import kubectl
from tests.cluster.process import RunningController
from tests.cluster.world import World
from tests.waiting import eventually

WRITES = 8
MOST_PODS = 6
ROUND_SECONDS = 1.0


async def scaled_by_hand(world: World, replicas: int) -> None:
    """Scale the Deployment as an autoscaler does."""
    command = ("-n", world.namespace, "scale", "deployment", "ava-worker", f"--replicas={replicas}")
    await asyncio.to_thread(kubectl, world.cluster, *command)


async def events(world: World, reason: str) -> list[str]:
    found = await world.client.list(EVENT, world.namespace)
    return [event["message"] for event in found if event["reason"] == reason]


async def test_scaling_again_and_again_starts_few_pods(world: World, controller: RunningController) -> None:
    await world.running("ava", scaling={"minWorkers": 1, "maxWorkers": 5, "freeSlots": 0, "scaleDownDelaySeconds": 0})
    for _ in range(WRITES):
        await scaled_by_hand(world, 4)
        await asyncio.sleep(ROUND_SECONDS)
    condition = await world.becomes("ava", "True", "ReplicasContested", ConditionType.SCALING_LIMITED)
    assert "'kubectl'" in condition["message"]
    assert "kubectl scale ava ava --replicas N" in condition["message"]
    assert condition["message"] in await events(world, "ReplicasContested")
    await controller.reconciles(world, "ava", 3)
    assert len(await events(world, "SuccessfulCreate")) <= MOST_PODS
    assert await events(world, "SuccessfulDelete") == []
    assert not any(pod["metadata"].get("deletionTimestamp") for pod in await world.pods("ava"))
    assert (await world.condition("ava"))["status"] == "True"


async def test_number_beyond_the_maximum_is_cut_to_it(world: World, controller: RunningController) -> None:
    await world.running("ava", scaling={"minWorkers": 1, "maxWorkers": 2, "freeSlots": 0, "scaleDownDelaySeconds": 0})
    await scaled_by_hand(world, 4)
    await world.becomes("ava", "True", "ReplicasContested", ConditionType.SCALING_LIMITED)

    async def cut() -> bool:
        return len(world.standin.of("ava")) == 2

    await eventually(cut, "two workers stay")


async def test_too_low_a_number_is_corrected(world: World, controller: RunningController) -> None:
    await world.declare("ava", scaling={"mode": "Fixed", "workers": 2})
    await world.becomes("ava", "True")
    await scaled_by_hand(world, 0)

    async def corrected() -> bool:
        deployment = await world.deployment("ava")
        return deployment is not None and deployment["spec"]["replicas"] == 2

    await eventually(corrected, "two workers again")
    await world.becomes("ava", "True")
