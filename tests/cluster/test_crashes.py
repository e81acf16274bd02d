"""The controller is killed repeatedly during its work; the final state is as without crashes."""

import asyncio
import contextlib
import os
import random
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.runtime.lease import LEASE
from controller.runtime.settings import LEASE_NAME
from devkit.cluster import Cluster
from kube.kinds import AVATAR_AGENT, POD, REPLICA_SET
from tests.cluster.instance import RELEASE_NAMESPACE
from tests.cluster.openai import OpenAI
from tests.cluster.proxy import Proxy
from tests.cluster.restarts import RestartedController
from tests.cluster.staged import staged
from tests.cluster.world import World, settled
from tests.waiting import eventually

WRITES = 8
"""Approximate number of writes to create an agent; a crash happens at one of them, between them or after them."""
OPERATION_SECONDS = (0.5, 4.0)
"""Range of the latest time of a crash; the controller waits 2 s for further changes."""
START_SECONDS = 3.0
DONE_SECONDS = 90.0
"""The machine runs other tests at the same time."""


@dataclass
class Scene:
    """Applies changes to agents, and knows the expected state."""

    world: World
    chance: random.Random
    wanted: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Spec of every existing agent."""
    changes: dict[str, int] = field(default_factory=dict)
    """Number of changes of each agent."""

    async def change(self, step: str) -> str:
        """Create, update or delete an agent; return its name."""
        return await {"create": self._create, "update": self._update, "delete": self._delete}[step]()

    async def _create(self) -> str:
        name = f"agent-{len(self.changes)}"
        self.changes[name] = 0
        return await self._declare(name)

    async def _update(self) -> str:
        name = self.chance.choice(sorted(self.wanted))
        self.changes[name] += 1
        return await self._declare(name)

    async def _delete(self) -> str:
        name = self.chance.choice(sorted(self.wanted))
        del self.wanted[name]
        await self.world.remove(AVATAR_AGENT, name)
        return name

    async def _declare(self, name: str) -> str:
        self.wanted[name] = {"persona": {"greeting": f"Hello number {self.changes[name]}"}}
        await self.world.declare(name, **self.wanted[name])
        return name


@pytest.mark.timeout(600)
@pytest.mark.parametrize("crashes", [8, pytest.param(40, marks=pytest.mark.soak)])
async def test_crashes_at_any_point_do_not_change_the_result(
    cluster: Cluster, openai: OpenAI, controller_kubeconfig: Path, tmp_path: Path, crashes: int
) -> None:
    seed = int(os.environ.get("CRASH_SEED") or secrets.randbits(32))
    print(f"CRASH_SEED={seed}")
    namespace = f"test-{secrets.token_hex(3)}"
    async with staged(cluster, openai, controller_kubeconfig, tmp_path, namespace) as (world, proxy, controller):
        scene = Scene(world, random.Random(seed))
        for crash in range(crashes):
            # Twice as many are created as deleted.
            step = ("create", "update", "create", "delete")[crash % 4]
            await _crash(scene, step, proxy, controller)
        after_crashes = await _outcome(scene)
        assert len(controller.starts) == crashes + 1
        for name in scene.wanted:
            # There are fewer when two changes happened without a controller.
            assert await world.rollouts(name) <= 1 + scene.changes[name], f"{name}: one rollout for each change"
        for name in scene.wanted:
            await world.remove(AVATAR_AGENT, name)
        await eventually(world.nothing, "everything is gone", DONE_SECONDS)
        for name, spec in scene.wanted.items():
            await world.declare(name, **spec)
        without_crashes = await _outcome(scene)
        assert after_crashes.keys() == without_crashes.keys()
        for what, without in without_crashes.items():
            assert after_crashes[what] == without, what
        assert controller.unexpected() == []


async def _crash(scene: Scene, step: str, proxy: Proxy, controller: RestartedController) -> None:
    """Change an agent, and kill the controller while it reconciles or starts."""
    chance, killed = scene.chance, asyncio.Event()
    bound = chance.uniform(*OPERATION_SECONDS)
    if chance.random() < 0.5:
        await controller.ready()
    else:
        bound += START_SECONDS
    present = controller.current.process

    def kill() -> None:
        controller.kill()
        killed.set()

    write, after = chance.randrange(WRITES), chance.random() < 0.5
    proxy.fault_at_write(write, after=after, action=kill)
    name = await scene.change(step)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(killed.wait(), bound)
    proxy.cancel_write_fault()
    when = f"{'after' if after else 'before'} write {write}" if killed.is_set() else f"{bound:.1f} s later"
    print(f"{step} {name}: killed {when}")
    if not killed.is_set():
        controller.kill()
    await asyncio.to_thread(present.wait)
    # Do not wait until the Lease expires; another test does.
    await scene.world.client.delete(LEASE, RELEASE_NAMESPACE, LEASE_NAME)
    await eventually(lambda: _replaced(controller, present), "the controller is restarted")


async def _replaced(controller: RestartedController, present: subprocess.Popen[bytes]) -> bool:
    return controller.current.process is not present


async def _outcome(scene: Scene) -> dict[str, Any]:
    """Return children and statuses once the controller has finished."""
    try:
        await eventually(lambda: _done(scene), "every agent is up to date", DONE_SECONDS)
    except AssertionError as error:
        found = {name: (await scene.world.agent(name)).get("status") for name in scene.wanted}
        workers = {name: [one.pod for one in scene.world.standin.of(name)] for name in scene.wanted}
        pods = await scene.world.client.list(POD, scene.world.namespace)
        reported = {pod["metadata"]["name"]: pod["status"] for pod in pods}
        raise AssertionError(f"{error}\nstatuses: {found}\nworkers: {workers}\npods: {reported}") from error
    world, found = scene.world, {}
    for kind, document in await world.child_documents():
        found[f"{kind.kind}/{document['metadata']['name']}"] = _essence(document)
    for name in scene.wanted:
        agent = await world.agent(name)
        conditions = [(one["type"], one["status"], one["reason"]) for one in agent["status"].pop("conditions")]
        found[f"AvatarAgent/{name}"] = {**agent["status"], "conditions": conditions, "observedGeneration": None}
    return found


async def _done(scene: Scene) -> bool:
    """Whether each agent has one worker with the current configuration, an up-to-date status, and no surplus child."""
    world = scene.world
    for name, spec in scene.wanted.items():
        agent, workers = await world.agent(name), world.standin.of(name)
        if not settled(agent) or len(workers) != 1:
            return False
        if spec["persona"]["greeting"] not in await world.configuration(workers[0].pod):
            return False
    kinds = [kind.kind for kind, _ in await world.child_documents()]
    used = await world.client.list(REPLICA_SET, world.namespace)
    living = [document for document in used if document["spec"]["replicas"]]
    expected = {"Deployment": 1, "ConfigMap": 1, "PodDisruptionBudget": 1}
    counts = {kind: kinds.count(kind) for kind in expected}
    agents = len(scene.wanted)
    shared = (kinds.count("ServiceAccount"), kinds.count("NetworkPolicy"))
    return counts == {kind: agents for kind in expected} and shared == (1, 1) and len(living) == agents


def _essence(document: dict[str, Any]) -> dict[str, Any]:
    """Return a child without the fields that differ between two equal children."""
    metadata = document["metadata"]
    owners = [{**owner, "uid": None} for owner in metadata.get("ownerReferences", [])]
    kept_metadata = {
        "labels": metadata.get("labels"),
        "owners": owners,
        "annotations": sorted(metadata.get("annotations", {})),
    }
    if "template" in document.get("spec", {}):
        # They differ between two agents, even if these have the same name one after the other.
        annotations = document["spec"]["template"]["metadata"]["annotations"]
        document["spec"]["template"]["metadata"]["annotations"] = sorted(annotations)
    rest = {name: value for name, value in document.items() if name not in ("metadata", "status")}
    return {**rest, "metadata": kept_metadata}
