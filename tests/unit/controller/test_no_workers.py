"""Agents whose manifest never starts a worker are not ready: no call would be answered."""

from typing import Any

import pytest

from agentspec import ConditionType
from controller.policy.scale import why_no_worker_starts
from tests.unit.controller.builders import spec, status
from tests.unit.controller.world import World

NONE_AUTOMATIC: dict[str, Any] = {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 0, "freeSlots": 0}}


@pytest.mark.parametrize(
    ("fields", "message_part"),
    [
        pytest.param({"scaling": {"mode": "Fixed", "workers": 0}}, "spec.scaling.workers is 0", id="fixed-zero"),
        pytest.param({"scaling": {"mode": "Fixed", "workers": 1}}, "", id="fixed-one"),
        pytest.param({"scaling": {"minWorkers": 0, "freeSlots": 0}}, "", id="explicit"),
        pytest.param(NONE_AUTOMATIC, "with dispatch.mode Automatic", id="automatic"),
        pytest.param(
            {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 0, "freeSlots": 1}},
            "",
            id="automatic-with-a-free-slot",
        ),
        pytest.param(
            {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 1, "freeSlots": 0}},
            "",
            id="automatic-with-a-minimum",
        ),
    ],
)
def test_manifests_that_never_start_a_worker_are_found(fields: dict[str, Any], message_part: str) -> None:
    reason = why_no_worker_starts(spec(**fields))
    assert bool(reason) == bool(message_part)
    assert message_part in reason


async def test_agent_fixed_to_zero_workers_is_not_ready(world: World) -> None:
    world.put_agent(scaling={"mode": "Fixed", "workers": 0})
    world.set_pending_calls(4)
    await world.roll_out()
    assert world.replicas == 0
    state, reason, message = world.condition(ConditionType.READY)
    assert (state, reason) == ("False", "ScaledToZero")
    assert "Set workers to 1 or more (or use kubectl scale). To take no calls, set suspend: true" in message
    world.put_agent(scaling={"mode": "Fixed", "workers": 1})
    await world.roll_out()
    world.put_pod("pod-1", status())
    await world.reconcile()
    assert world.condition(ConditionType.READY)[:2] == ("True", "AllChecksPassed")


async def test_automatic_agent_without_workers_is_not_ready(world: World) -> None:
    world.put_agent(**NONE_AUTOMATIC)
    await world.roll_out()
    assert world.replicas == 0
    assert world.condition(ConditionType.READY)[:2] == ("False", "ScaledToZero")
    world.put_agent(**NONE_AUTOMATIC, suspend=True)
    await world.roll_out()
    assert world.condition(ConditionType.READY)[:2] == ("False", "Suspended"), "suspension comes first"


async def test_agent_whose_first_call_starts_a_worker_is_ready(world: World) -> None:
    world.put_agent(scaling={"minWorkers": 0, "freeSlots": 0})
    await world.roll_out()
    message = "No worker is needed now; the first waiting call starts one."
    assert world.condition(ConditionType.READY) == ("True", "AllChecksPassed", message)
    world.set_pending_calls(1)
    await world.reconcile()
    assert world.replicas == 1
