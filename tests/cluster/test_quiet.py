"""Without changes, the controller writes nothing."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from controller.desired.identity import FIELD_MANAGER
from kube.kinds import AVATAR_AGENT, EVENT, POD, SECRET
from tests.cluster.background import Stage
from tests.cluster.restarts import restarted
from tests.cluster.world import World, open_world
from tests.waiting import eventually

QUIET_SECONDS = 600.0
LOOK_SECONDS = 5.0
"""Longer than the controller delays any write."""


async def nothing_happens(stage: Stage) -> None:
    """Observe agents for ten minutes: idle, busy, with pods that cannot start, suspended, and without a Secret."""
    async with (
        stage.cluster("quiet") as (cluster, kubeconfig),
        open_world(cluster, stage.openai, "quiet", period=1.0) as world,
        restarted(kubeconfig, stage.folder, world.namespace) as controller,
    ):
        await _declare(world)
        before = await eventually(lambda: _settled(world), "nothing changes any more", 90.0)
        begun = time.monotonic()
        reconciles = await controller.current.metric("avatar_agent_controller_reconciles_total")
        await asyncio.sleep(QUIET_SECONDS)
        after = await _documents(world)
        assert time.monotonic() - begun >= QUIET_SECONDS
        changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
        assert changed == [], {name: (before.get(name), after.get(name)) for name in changed}
        assert await controller.current.metric("avatar_agent_controller_reconciles_total") > reconciles, (
            "the controller reconciled meanwhile"
        )
        assert len(controller.starts) == 1
        assert controller.unexpected() == []


@pytest.mark.timeout(900)
@pytest.mark.background.with_args(nothing_happens)
def test_nothing_is_written_in_ten_minutes_without_change(outcome: Callable[[float], None]) -> None:
    outcome(800)


async def _declare(world: World) -> None:
    world.standin.waiting["stuck"] = "ImagePullBackOff"
    await world.declare("idle")
    await world.declare("busy")
    await world.declare("stuck", worker={"image": "nowhere.example/none:1"})
    await world.declare("suspended", suspend=True)
    missing = {"url": world.cluster.livekit_url, "credentialsSecretRef": {"name": "nowhere"}}
    await world.declare("keyless", livekit=missing)
    await world.becomes("idle", "True")
    await world.becomes("busy", "True")
    (worker,) = world.standin.of("busy")
    worker.calls = 1
    assert await world.client.get(SECRET, world.namespace, "nowhere") is None


async def _settled(world: World) -> dict[str, dict[str, Any]]:
    """Return all documents once nothing has changed for a while."""
    before = await _documents(world)
    await asyncio.sleep(LOOK_SECONDS)
    counts = [(document.get("status") or {}).get("calls", {}).get("active") for document in before.values()]
    return before if 1 in counts and before == await _documents(world) else {}


async def _documents(world: World) -> dict[str, dict[str, Any]]:
    agents = [await world.agent(name) for name in ("idle", "busy", "stuck", "suspended", "keyless")]
    found = {f"AvatarAgent/{document['metadata']['name']}": document for document in agents}
    events = await world.client.list(EVENT, world.namespace)
    for event in events:
        if event["involvedObject"]["kind"] == AVATAR_AGENT.kind:
            found[f"Event/{event['metadata']['name']}"] = event
    pods = [(POD, pod) for pod in await world.client.list(POD, world.namespace)]
    for kind, document in [*pods, *await world.child_documents()]:
        found[f"{kind.kind}/{document['metadata']['name']}"] = document
    # Kubernetes itself notes after ten minutes (progressDeadlineSeconds) that these workers do not start.
    found["Deployment/stuck-worker"] = _of_the_controller(found["Deployment/stuck-worker"])
    return found


def _of_the_controller(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a write of the controller would change, the time of the last write included."""
    fields = [entry for entry in document["metadata"]["managedFields"] if entry["manager"] == FIELD_MANAGER]
    assert fields
    return {"generation": document["metadata"]["generation"], "spec": document["spec"], "fields": fields}
