"""A lost worker is no capacity: another one starts in its place, and the lost one goes."""

import pytest

from agentspec import ConditionType
from tests.cluster.process import RunningController
from tests.cluster.standin import Worker
from tests.cluster.test_scaling import Gateway
from tests.cluster.world import World
from tests.waiting import eventually

SCALING = {"minWorkers": 1, "maxWorkers": 5, "freeSlots": 2, "scaleDownDelaySeconds": 2}
ROOMY = {"callsPerWorker": 4}
DETECTION_SECONDS = 60.0
"""Enough for the last status to expire, on a busy machine."""


async def running(world: World) -> Worker:
    """Declare an agent whose one worker is enough for several calls, and return the worker."""
    world.standin.slots = 4
    (worker,) = await world.running("ava", worker=ROOMY, scaling=SCALING)
    return worker


async def replacement(world: World, lost: Worker, gateway: Gateway, waiting: int) -> Worker:
    """Wait for another worker that serves."""

    async def serves() -> Worker | None:
        await gateway.waits(**{f"{world.namespace}__ava": waiting})
        status = (await world.agent("ava"))["status"]
        others = [worker for worker in world.standin.of("ava") if worker is not lost]
        return others[0] if others and status["workers"]["registered"] == 1 else None

    found = await eventually(serves, "another worker serves", DETECTION_SECONDS)
    assert found is not None
    return found


async def freeze(world: World, worker: Worker, *, calls: int) -> None:
    """Let the worker report this many calls, and then hang."""
    worker.calls = calls
    if calls:

        async def reported() -> bool:
            status = (await world.agent("ava"))["status"]
            return bool(status["calls"]["active"] == calls)

        await eventually(reported, f"{calls} calls are reported")
    worker.awake.clear()


@pytest.mark.parametrize("scaling", [{"maxWorkers": 1}, {"mode": "Fixed", "workers": 1}], ids=["maximum", "fixed"])
async def test_frozen_worker_without_a_call_is_deleted_and_replaced(
    world: World, controller: RunningController, scaling: dict[str, object]
) -> None:
    world.standin.slots = 4
    (frozen,) = await world.running("ava", worker=ROOMY, scaling=scaling)
    await freeze(world, frozen, calls=0)
    other = await replacement(world, frozen, Gateway(world, controller), waiting=1)
    assert {worker.pod for worker in world.standin.workers.values()} <= {frozen.pod, other.pod}, "no third one"
    controller.logged("deleted pod whose worker hangs without a call", agent=f"{world.namespace}/ava", pod=frozen.pod)
    deployment = await world.deployment("ava")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 1


async def test_frozen_worker_with_a_call_stays_and_another_starts(world: World, controller: RunningController) -> None:
    frozen = await running(world)
    await freeze(world, frozen, calls=1)
    other = await replacement(world, frozen, Gateway(world, controller), waiting=1)
    assert {worker.pod for worker in world.standin.workers.values()} == {frozen.pod, other.pod}, "no third one"
    condition = await world.condition("ava", ConditionType.WORKERS_REGISTERED)
    assert condition["status"] == "True"
    assert frozen.pod in condition["message"]
    assert other.pod not in condition["message"]
    controller.logged("workers scaled", agent=f"{world.namespace}/ava", workers=2, reason="WorkersLost")


async def test_worker_of_a_lost_node_is_replaced_and_removed(world: World, controller: RunningController) -> None:
    lost = await running(world)
    await world.standin.lose(lost)
    other = await replacement(world, lost, Gateway(world, controller), waiting=0)

    async def removed() -> bool:
        pods = await world.pods("ava")
        ending = [pod["metadata"]["name"] for pod in pods if pod["metadata"].get("deletionTimestamp")]
        return len(pods) == 2 and ending == [lost.pod]

    await eventually(removed, "the lost pod is deleted, and not the one that serves")
    assert world.standin.workers[other.pod] is other
    deployment = await world.deployment("ava")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 1


async def test_worker_that_loses_its_registration_briefly_is_kept(world: World, controller: RunningController) -> None:
    worker = await running(world)
    gateway = Gateway(world, controller)
    worker.registered = False
    await world.becomes("ava", "False", "NotRegistered", ConditionType.WORKERS_REGISTERED)
    await gateway.waits(**{f"{world.namespace}__ava": 1})
    await controller.reconciles(world, "ava", 3)
    worker.registered = True
    await world.becomes("ava", "True")
    await gateway.waits(**{f"{world.namespace}__ava": 0})
    deployment = await world.deployment("ava")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 1
    assert world.standin.of("ava") == [worker]


async def test_no_worker_starts_beyond_the_maximum(world: World, controller: RunningController) -> None:
    world.standin.slots = 4
    (frozen,) = await world.running("ava", worker=ROOMY, scaling={**SCALING, "maxWorkers": 1})
    await freeze(world, frozen, calls=1)
    gateway = Gateway(world, controller)

    async def limited() -> bool:
        await gateway.waits(**{f"{world.namespace}__ava": 1})
        condition = await world.condition("ava", ConditionType.SCALING_LIMITED)
        return condition["status"] == "True" and "Lost workers count" in condition["message"]

    await eventually(limited, "the limit is reported with its cause", DETECTION_SECONDS)
    await world.becomes("ava", "False", "WorkersLost")
    assert len(await world.pods("ava")) == 1
