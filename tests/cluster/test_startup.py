"""A pod that does not start is explained: its state, since when, and the command that tells more."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentspec import ConditionType
from kube.kinds import EVENT
from tests.cluster.process import RunningController
from tests.cluster.world import World
from tests.waiting import eventually

TWO = {"minWorkers": 2, "maxWorkers": 2, "freeSlots": 0}


def ago(minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def container(name: str, **state: Any) -> dict[str, Any]:
    """A container's status in one state."""
    return {"name": name, "image": "none", "imageID": "", "ready": False, "restartCount": 0, "state": state}


def pending(*init: dict[str, Any], reason: str = "ContainerCreating", since: str = "") -> dict[str, Any]:
    """The status of a pod whose worker container waits; default: for ten minutes."""
    return {
        "phase": "Pending",
        "startTime": since or ago(10),
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "initContainerStatuses": list(init),
        "containerStatuses": [container("worker", waiting={"reason": reason})],
    }


@pytest.mark.parametrize(
    ("status", "parts"),
    [
        pytest.param(
            pending(), ["ContainerCreating since ", "kubectl describe pod ava-worker-"], id="no address or volume"
        ),
        pytest.param(
            pending(container("vault", running={"startedAt": ago(5)}), reason="PodInitializing"),
            ["init container vault: it has not finished since ", " -c vault"],
            id="init container that hangs",
        ),
        pytest.param(
            pending(
                container("vault", waiting={"reason": "CrashLoopBackOff", "message": "back-off 20s"}),
                reason="PodInitializing",
                since=ago(0),
            ),
            ["init container vault: CrashLoopBackOff: back-off 20s", " -c vault --previous"],
            id="init container that fails",
        ),
    ],
)
async def test_pod_that_does_not_start_is_explained(
    world: World, controller: RunningController, status: dict[str, Any], parts: list[str]
) -> None:
    world.standin.held["ava"] = status
    await world.declare("ava")
    seen = await world.becomes("ava", "False", "NotRegistered", ConditionType.WORKERS_REGISTERED)
    assert all(part in seen["message"] for part in parts), seen["message"]
    assert (await world.condition("ava"))["message"] == seen["message"]
    del world.standin.held["ava"]
    await world.becomes("ava", "True")


async def test_one_pod_of_two_that_does_not_start_has_an_event(world: World, controller: RunningController) -> None:
    await world.running("ava", scaling={**TWO, "minWorkers": 1})
    world.standin.held["ava"] = pending()
    await world.declare("ava", scaling=TWO)
    seen = await world.becomes("ava", "True", "PartlyRegistered", ConditionType.WORKERS_REGISTERED)
    assert "ContainerCreating since" in seen["message"]

    async def posted() -> list[tuple[str, str]]:
        events = await world.client.list(EVENT, world.namespace)
        return [(event["type"], event["message"]) for event in events if event["reason"] == seen["reason"]]

    assert await eventually(posted, "the event that follows the condition") == [("Warning", seen["message"])]


async def test_start_of_normal_length_needs_no_explanation(world: World, controller: RunningController) -> None:
    world.standin.held["ava"] = pending(since=ago(1))
    await world.declare("ava")
    await world.becomes("ava", "False", "WorkersStarting", ConditionType.WORKERS_REGISTERED)
