"""An agent name stays in use until the last worker that is registered under it is gone."""

from collections.abc import Callable

import pytest

from agentspec import ConditionType
from controller.observation import Key
from controller.policy.decide import NOT_READY_SECONDS
from kube.kinds import AVATAR_AGENT, DEPLOYMENT, POD, SECRET
from tests.unit.controller.builders import KEY, OTHER, status
from tests.unit.controller.world import WORKERS, World


def _delete(world: World) -> None:
    world.remove_agent()


def _mark_deleted(world: World) -> None:
    """Delete the AvatarAgent while a finalizer of another controller keeps it."""
    dying = world.server.find(AVATAR_AGENT, "shop", "ava")
    assert dying is not None
    dying["metadata"]["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    world.agents.update(world.server.put(AVATAR_AGENT, dying))


@pytest.mark.parametrize(
    ("delete", "replicas"),
    [
        pytest.param(_delete, 1, id="deleted"),
        pytest.param(_mark_deleted, 0, id="held-by-a-finalizer"),
    ],
)
async def test_name_of_a_deleted_agent_is_in_use_until_its_workers_end(
    world: World, delete: Callable[[World], None], replicas: int
) -> None:
    await world.become_ready()
    world.put_agent("eve", day=3, agentName="ava")
    delete(world)
    assert await world.reconcile() == NOT_READY_SECONDS
    assert world.replicas == replicas, "the garbage collector removes the Deployment of a deleted agent"
    await world.reconciler.reconcile(OTHER)
    assert world.condition(ConditionType.NAME_UNIQUE, OTHER)[:2] == ("False", "NameTaken")
    assert world.server.names(DEPLOYMENT) == {WORKERS}
    world.server.remove(POD, "shop", "pod-1")
    assert await world.reconcile() is None
    await world.reconciler.reconcile(OTHER)
    assert world.condition(ConditionType.NAME_UNIQUE, OTHER)[0] == "True"
    assert "eve-worker" in world.server.names(DEPLOYMENT)


async def test_new_leader_learns_the_names_in_use_before_it_decides(world: World) -> None:
    await world.become_ready()
    world.server.remove(SECRET, "shop", "openai")
    world.put_agent(agentName="renamed")  # blocked: its workers keep the earlier name
    world.put_secret("another", apiKey="key")
    voice = {"openai": {"credentialsSecretRef": {"name": "another"}}}
    world.put_agent("eve", day=3, agentName="ava", voice=voice)
    world.fleet.forget(KEY)  # as in a new leader

    def report(key: Key) -> None:
        if key == KEY:
            world.report_status("pod-1", status())

    world.streams.report = report
    await world.reconciler.sync(world.agents.all())
    await world.reconciler.reconcile(OTHER)
    assert world.condition(ConditionType.NAME_UNIQUE, OTHER)[:2] == ("False", "NameTaken")
    assert world.server.names(DEPLOYMENT) == {WORKERS}
