"""Agents whose manifest never starts a worker are not ready."""

import asyncio
from typing import Any

import pytest

from agentspec import ConditionType, Demand
from controller.policy.scale import why_no_worker_starts
from tests.unit.controller.builders import spec, status
from tests.unit.controller.world import KEY, World, played

NONE_AUTOMATIC: dict[str, Any] = {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 0, "freeSlots": 0}}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        pytest.param({"scaling": {"mode": "Fixed", "workers": 0}}, "spec.scaling.workers is 0", id="fixed to zero"),
        pytest.param({"scaling": {"mode": "Fixed", "workers": 1}}, "", id="fixed to one"),
        pytest.param({"scaling": {"minWorkers": 0, "freeSlots": 0}}, "", id="the first call starts one"),
        pytest.param(NONE_AUTOMATIC, "with dispatch.mode Automatic", id="automatic dispatch without warm workers"),
        pytest.param(
            {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 0, "freeSlots": 1}},
            "",
            id="automatic dispatch with a free slot",
        ),
        pytest.param(
            {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 1, "freeSlots": 0}},
            "",
            id="automatic dispatch with a minimum",
        ),
    ],
)
def test_reason_why_no_worker_ever_starts(fields: dict[str, Any], text: str) -> None:
    reason = why_no_worker_starts(spec(**fields))
    assert bool(reason) == bool(text)
    assert text in reason


def test_agent_fixed_to_zero_workers_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(scaling={"mode": "Fixed", "workers": 0})
        world.fleet.record_demand(Demand(gateway="g", pending={str(KEY): 4}), asyncio.get_running_loop().time())
        await world.rolled_out()
        assert world.replicas == 0
        state, reason, message = world.condition(ConditionType.READY)
        assert (state, reason) == ("False", "ScaledToZero")
        assert "Set workers to 1 or more (or use kubectl scale). To take no calls, set suspend: true" in message
        world.put_agent(scaling={"mode": "Fixed", "workers": 1})
        await world.rolled_out()
        world.put_pod("pod-1", status(agent_name="ava"))
        await world.reconcile()
        assert world.condition(ConditionType.READY)[:2] == ("True", "AllChecksPassed")

    played(monkeypatch, scenario)


def test_automatic_agent_without_workers_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(**NONE_AUTOMATIC)
        await world.rolled_out()
        assert world.replicas == 0
        assert world.condition(ConditionType.READY)[:2] == ("False", "ScaledToZero")
        world.put_agent(**NONE_AUTOMATIC, suspend=True)
        await world.rolled_out()
        assert world.condition(ConditionType.READY)[:2] == ("False", "Suspended"), "which is on purpose"

    played(monkeypatch, scenario)


def test_agent_that_starts_workers_on_demand_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(scaling={"minWorkers": 0, "freeSlots": 0})
        await world.rolled_out()
        message = "No worker is needed now; the first waiting call starts one."
        assert world.condition(ConditionType.READY) == ("True", "AllChecksPassed", message)
        world.fleet.record_demand(Demand(gateway="g", pending={str(KEY): 1}), asyncio.get_running_loop().time())
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)
