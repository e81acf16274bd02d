"""A name stays in use until the last worker registered under it is gone."""

import asyncio
from collections.abc import Callable

import pytest

from agentspec import ConditionType
from agentspec.wire import WorkerStatus
from controller.observation import Key
from controller.policy.decide import NOT_READY_SECONDS
from kube.kinds import AVATAR_AGENT, DEPLOYMENT, POD, SECRET
from tests.unit.controller.builders import status
from tests.unit.controller.world import KEY, WORKERS, World, played

EVA = Key("shop", "eva")


def registered() -> WorkerStatus:
    return status(agent_name="ava")


async def ready(world: World) -> None:
    """Start the agent with one registered worker."""
    await world.reconcile()
    world.put_pod("pod-1", registered())
    await world.reconcile()


def _gone(world: World) -> None:
    world.remove_agent()


def _held_by_a_finalizer(world: World) -> None:
    dying = world.server.find(AVATAR_AGENT, "shop", "ava")
    assert dying is not None
    dying["metadata"]["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    world.agents.update(world.server.put(AVATAR_AGENT, dying))


@pytest.mark.parametrize(("delete", "replicas"), [(_gone, 1), (_held_by_a_finalizer, 0)])
def test_deleted_agents_name_is_in_use_until_its_workers_end(
    monkeypatch: pytest.MonkeyPatch, delete: Callable[[World], None], replicas: int
) -> None:
    async def scenario(world: World) -> None:
        await ready(world)
        world.put_agent("eva", day=3, agentName="ava")
        delete(world)
        assert await world.reconcile() == NOT_READY_SECONDS
        assert world.replicas == replicas, "once the agent is gone, the garbage collector deletes it"
        await world.reconciler.reconcile(EVA)
        assert world.condition(ConditionType.NAME_UNIQUE, EVA)[:2] == ("False", "NameTaken")
        assert world.server.names(DEPLOYMENT) == {WORKERS}
        world.server.remove(POD, "shop", "pod-1")
        assert await world.reconcile() is None
        await world.reconciler.reconcile(EVA)
        assert world.condition(ConditionType.NAME_UNIQUE, EVA)[0] == "True"
        assert "eva-worker" in world.server.names(DEPLOYMENT)

    played(monkeypatch, scenario)


def test_new_leader_learns_names_in_use_before_it_assigns_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await ready(world)
        world.server.remove(SECRET, "shop", "openai")
        world.put_agent(agentName="renamed")  # blocked: its workers stay registered under the old name
        world.put_secret("another", apiKey="key")
        voice = {"openai": {"credentialsSecretRef": {"name": "another"}}}
        world.put_agent("eva", day=3, agentName="ava", voice=voice)
        world.fleet.forget(KEY)  # a new leader starts with an empty fleet

        def speak(key: Key) -> None:
            if key == KEY:
                world.fleet.record_status(key, "pod-1", registered(), asyncio.get_running_loop().time())

        world.streams.speak = speak
        await world.reconciler.sync(world.agents.all())
        await world.reconciler.reconcile(EVA)
        assert world.condition(ConditionType.NAME_UNIQUE, EVA)[:2] == ("False", "NameTaken")
        assert world.server.names(DEPLOYMENT) == {WORKERS}

    played(monkeypatch, scenario)
