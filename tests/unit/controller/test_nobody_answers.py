"""Agents that the manifest leaves without workers are not ready: nobody would ever answer."""

import asyncio
from typing import Any

import pytest

from agentspec import ConditionType, Demand
from controller.policy.scale import why_no_worker_starts
from tests.unit.controller.builders import spec, status
from tests.unit.controller.world import KEY, World, played

NONE_AUTOMATIC: dict[str, Any] = {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 0, "freeSlots": 0}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({"scaling": {"mode": "Fixed", "workers": 0}}, "spec.scaling.workers is 0", id="fixed to none"),
        pytest.param({"scaling": {"mode": "Fixed", "workers": 1}}, "", id="fixed to one"),
        pytest.param({"scaling": {"minWorkers": 0, "freeSlots": 0}}, "", id="the first call starts one"),
        pytest.param(NONE_AUTOMATIC, "with dispatch.mode Automatic", id="no call is heard of"),
        pytest.param(
            {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 0, "freeSlots": 1}}, "", id="one is kept warm"
        ),
        pytest.param(
            {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 1, "freeSlots": 0}}, "", id="one always runs"
        ),
    ],
)
def test_whether_a_manifest_leaves_an_agent_without_workers(fields: dict[str, Any], told: str) -> None:
    reason = why_no_worker_starts(spec(**fields))
    assert bool(reason) == bool(told)
    assert told in reason


def test_fixed_to_none_it_is_not_ready_and_says_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_workers_in_automatic_dispatch_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(**NONE_AUTOMATIC)
        await world.rolled_out()
        assert world.replicas == 0
        assert world.condition(ConditionType.READY)[:2] == ("False", "ScaledToZero")
        world.put_agent(**NONE_AUTOMATIC, suspend=True)
        await world.rolled_out()
        assert world.condition(ConditionType.READY)[:2] == ("False", "Suspended"), "which is meant"

    played(monkeypatch, scenario)


def test_where_a_call_starts_the_first_worker_none_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(scaling={"minWorkers": 0, "freeSlots": 0})
        await world.rolled_out()
        told = "No worker is needed now; the first waiting call starts one."
        assert world.condition(ConditionType.READY) == ("True", "AllChecksPassed", told)
        world.fleet.record_demand(Demand(gateway="g", pending={str(KEY): 1}), asyncio.get_running_loop().time())
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)
