"""The controller restores children that others change or delete, and keeps fields of others."""

import asyncio
from typing import Any

import pytest

from agentspec import ConditionType
from agentspec.names import AGENT_LABEL, MANAGED_BY_LABEL
from kube.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, SERVICE_ACCOUNT, Kind
from tests.cluster.burst import burst
from tests.cluster.world import DISRUPTION_BUDGET, GONE_SECONDS, NETWORK_POLICY, World
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("controller")

BACK_SECONDS = 30.0
"""Limit on a busy machine; without an event the controller would look after ten minutes."""
FOREIGN = {"example.com/owner": "another team", "example.com/notes": "<" * 200_000}
"""Annotations of nearly the maximum size; Kubernetes' JSON escapes make them six times as long."""
EDITS: dict[Kind, dict[str, Any]] = {
    DEPLOYMENT: {"spec": {"replicas": 2, "template": {"spec": {"terminationGracePeriodSeconds": 1}}}},
    DISRUPTION_BUDGET: {"spec": {"maxUnavailable": 0}},
    NETWORK_POLICY: {"spec": {"ingress": [], "policyTypes": ["Ingress", "Egress"]}},
    SERVICE_ACCOUNT: {"automountServiceAccountToken": True},
    # Only its metadata can change. Without these labels it has no agent, and nothing would delete it.
    CONFIG_MAP: {"metadata": {"labels": {AGENT_LABEL: "other", MANAGED_BY_LABEL: None}}},
}

Child = tuple[Kind, str]


async def test_edited_children_are_restored_with_foreign_annotations(world: World) -> None:
    before = await _declared(world)
    for kind, name in before:
        await world.client.merge_patch(kind, world.namespace, name, {"metadata": {"annotations": FOREIGN}})
    await asyncio.gather(*(world.client.merge_patch(kind, world.namespace, name, EDITS[kind]) for kind, name in before))
    await _wait_restored(world, before)
    for kind, name in before:
        document = await world.client.get(kind, world.namespace, name)
        assert document is not None
        assert FOREIGN.items() <= document["metadata"]["annotations"].items(), f"{kind.kind} {name}"


async def test_deleted_children_are_restored(world: World) -> None:
    before = await _declared(world)
    await asyncio.gather(*(world.remove(kind, name) for kind, name in before))
    await _wait_restored(world, before)
    await world.becomes("ava", "True")


async def test_burst_of_changes_is_one_rollout_and_cuts_no_call(world: World) -> None:
    (old,) = await world.running("ava")
    old.calls = 1
    await world.counts_calls("ava", 1)

    async def change(number: int) -> None:
        await world.declare("ava", persona={"greeting": f"Good morning number {number}"})

    bursts = await burst(5, change)
    message = "1 of 1 workers updated; 1 old worker is finishing 1 call."
    await eventually(lambda: _reports(world, message), message)
    await eventually(lambda: _counts(world, updated=1, draining=1, calls=1), "the counts agree")
    (new,) = world.standin.of("ava")
    assert "Good morning number 4" in await world.configuration(new.pod)
    assert world.standin.is_in_call(old), "the old worker keeps its call"
    assert (await world.condition("ava"))["status"] == "True"
    old.calls = 0
    await world.becomes("ava", "False", "RolledOut", ConditionType.PROGRESSING)
    assert 2 <= await world.rollouts("ava") <= 1 + bursts


async def test_shared_objects_are_deleted_with_the_last_agent(world: World) -> None:
    for name in ("ava", "eva"):
        await world.running(name)
    shared = {"ServiceAccount/avatar-agent-worker", "NetworkPolicy/avatar-agent-worker"}
    kinds = ("ServiceAccount/", "NetworkPolicy/")
    assert {child for child in await world.child_names() if child.startswith(kinds)} == shared
    await world.remove(AVATAR_AGENT, "ava")
    await eventually(lambda: world.nothing_of("ava"), "ava's children are gone", GONE_SECONDS)
    assert shared < await world.child_names()
    await world.remove(AVATAR_AGENT, "eva")
    await eventually(world.nothing, "nothing is left", GONE_SECONDS)


async def _reports(world: World, message: str) -> bool:
    condition = await world.condition("ava", ConditionType.PROGRESSING)
    return (condition["status"], condition["reason"], condition["message"]) == ("True", "RollingOut", message)


async def _counts(world: World, **expected: int) -> bool:
    status = (await world.agent("ava"))["status"]
    return expected == {
        "updated": status["workers"]["updated"],
        "draining": status["workers"]["draining"],
        "calls": status["calls"]["active"],
    }


async def _declared(world: World) -> dict[Child, dict[str, Any]]:
    """Declare an agent, wait until it is Ready, and return its children."""
    await world.running("ava")
    found = {
        (kind, document["metadata"]["name"]): _essence(document) for kind, document in await world.child_documents()
    }
    assert sorted(kind.kind for kind, _ in found) == sorted(kind.kind for kind in EDITS), "one of each kind"
    return found


async def _wait_restored(world: World, before: dict[Child, dict[str, Any]]) -> None:
    """Wait until all children are restored in time."""

    async def wait_restored(kind: Kind, name: str, essence: dict[str, Any]) -> None:
        async def restored() -> bool:
            document = await world.client.get(kind, world.namespace, name)
            return document is not None and _essence(document) == essence

        await eventually(restored, f"{kind.kind} {name} is restored: {essence}", BACK_SECONDS)

    await asyncio.gather(*(wait_restored(kind, name, essence) for (kind, name), essence in before.items()))


def _essence(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a child that the controller sets."""
    metadata = {name: document["metadata"].get(name) for name in ("name", "labels", "ownerReferences")}
    # Items of a list have no kind.
    excluded = ("metadata", "status", "kind", "apiVersion")
    return {**{name: value for name, value in document.items() if name not in excluded}, "metadata": metadata}
