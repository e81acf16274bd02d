"""The controller as a process: one namespace, restarts, and required settings."""

import subprocess
import sys
from pathlib import Path

import pytest

from kube.kinds import AVATAR_AGENT
from tests.cluster import manifests
from tests.cluster.process import running
from tests.cluster.threads import entered
from tests.cluster.world import World
from tests.waiting import eventually


async def test_controller_for_one_namespace_ignores_the_others(
    world: World, controller_kubeconfig: Path, tmp_path: Path
) -> None:
    async with entered(running(sys.executable, controller_kubeconfig, tmp_path / "log", namespace=world.namespace)):
        await world.running("ava")
    async with entered(running(sys.executable, controller_kubeconfig, tmp_path / "log", namespace="default")):
        await world.declare("eva")
        await world.declare("ava", url="ws://127.0.0.1:9")
        # This agent is declared last. Once it has conditions, the controller has ignored the others.
        await world.client.apply(
            AVATAR_AGENT, manifests.agent("default", "control", "ws://127.0.0.1:9", world.openai.url)
        )
        try:
            await eventually(lambda: _told(world, "control"), "the agent in the controller's namespace is reconciled")
        finally:
            await world.client.delete(AVATAR_AGENT, "default", "control")
        assert (await world.condition("ava"))["status"] == "True"
        assert await world.condition("eva") == {}


async def _told(world: World, name: str) -> bool:
    document = await world.client.get(AVATAR_AGENT, "default", name)
    return bool(document and document.get("status", {}).get("conditions"))


async def test_restart_keeps_busy_workers_and_conditions(
    world: World, controller_kubeconfig: Path, tmp_path: Path
) -> None:
    async with entered(running(sys.executable, controller_kubeconfig, tmp_path / "log")):
        scaling = {"minWorkers": 2, "maxWorkers": 3, "freeSlots": 0, "scaleDownDelaySeconds": 0}
        await world.declare("ava", scaling=scaling)
        await world.settles("ava", workers=2)
        ready = await world.condition("ava")
        for worker in world.standin.of("ava"):
            worker.calls = 1
    await world.declare("ava", scaling={**scaling, "minWorkers": 1})
    # In a thread: a controller waits 1 s for the first word of workers it does not know, and these run in this loop.
    async with entered(running(sys.executable, controller_kubeconfig, tmp_path / "log")) as second:

        async def counted() -> bool:
            return await second.metric("avatar_agent_controller_calls") == 2

        await eventually(counted, "the controller counts both calls")
        await second.reconciles(world, "ava", 3)
        assert len(world.standin.of("ava")) == 2
        assert (await world.condition("ava"))["lastTransitionTime"] == ready["lastTransitionTime"]


def test_controller_without_worker_image_says_what_to_set() -> None:
    ended = subprocess.run([sys.executable, "-m", "controller"], env={}, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert "WORKER_IMAGE is not set" in ended.stderr


pytestmark = pytest.mark.timeout(180)
