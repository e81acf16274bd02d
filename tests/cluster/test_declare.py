"""A manifest becomes workers, and its deletion removes them."""

from typing import Any

import pytest

from agentspec import ConditionType, WorkerConfig
from agentspec.wire import CONFIG_PATH
from kube.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT
from tests.cluster import manifests
from tests.cluster.process import WORKER_IMAGE, RunningController
from tests.cluster.world import GONE_SECONDS, World
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("controller")

BACK_SECONDS = 30.0
"""Limit on a busy machine; without an event the controller would look after ten minutes."""


async def test_manifest_becomes_a_worker_with_the_declared_name(world: World) -> None:
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "facts", **{"prices.md": "An hour is 500."}))
    world.standin.registered_name["ava"] = "the-declared-name"
    await world.declare(
        "ava", agentName="the-declared-name", language="ar", knowledge=[{"configMapRef": {"name": "facts"}}]
    )
    ready = await world.becomes("ava", "True")
    assert ready["reason"] == "AllChecksPassed"
    await world.settles("ava")
    status = (await world.agent("ava"))["status"]
    assert status["agentName"] == "the-declared-name"
    assert status["workers"] == {"desired": 1, "ready": 1, "registered": 1, "updated": 1, "draining": 0}
    assert status["slots"] == {"total": 1, "free": 1}
    deployment = await world.deployment("ava")
    assert deployment is not None
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == WORKER_IMAGE
    volumes = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
    configuration = await world.client.get(CONFIG_MAP, world.namespace, volumes[0])
    assert configuration is not None
    assert configuration["immutable"] is True
    config = WorkerConfig.model_validate_json(configuration["data"][CONFIG_PATH.rsplit("/", 1)[1]])
    assert (config.registered_name, config.language) == ("the-declared-name", "ar")
    assert [(text.name, text.text) for text in config.knowledge] == [("facts/prices.md", "An hour is 500.")]


async def test_restricted_pod_security_admits_workers(world: World) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await world.client._request(
        "PATCH", f"/api/v1/namespaces/{world.namespace}", None, label, content_type="application/merge-patch+json"
    )
    await world.declare("ava")
    await world.becomes("ava", "True")


async def test_reconcile_without_change_writes_nothing(world: World, controller: RunningController) -> None:
    await world.declare("ava")
    await world.becomes("ava", "True")
    foreign = {"metadata": {"annotations": {"example.com/owner": "another team"}}}
    await world.client.merge_patch(DEPLOYMENT, world.namespace, "ava-worker", foreign)

    async def documents() -> list[dict[str, Any]]:
        deployment = await world.deployment("ava")
        assert deployment is not None
        return [await world.agent("ava"), deployment, *await world.client.list(CONFIG_MAP, world.namespace)]

    # The Deployment's status follows its pods with a delay.
    await eventually(lambda: _available(world), "the Deployment is available")
    await world.settles("ava")
    before = await documents()
    await controller.reconciles(world, "ava", 3)
    assert await documents() == before
    assert before[1]["metadata"]["annotations"]["example.com/owner"] == "another team", "a foreign field survives"


async def _available(world: World) -> bool:
    deployment = await world.deployment("ava")
    if deployment is None or deployment["status"].get("availableReplicas") != 1:
        return False
    progressing = [one["reason"] for one in deployment["status"].get("conditions", []) if one["type"] == "Progressing"]
    seen = deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
    return seen and progressing == ["NewReplicaSetAvailable"]


async def test_edited_or_deleted_deployment_is_restored(world: World) -> None:
    await world.running("ava")
    edit = {"spec": {"replicas": 3, "template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
    await world.client.merge_patch(DEPLOYMENT, world.namespace, "ava-worker", edit)

    async def restored() -> bool:
        found = await world.deployment("ava")
        if found is None:
            return False
        spec = found["spec"]
        return (spec["replicas"], spec["template"]["spec"]["terminationGracePeriodSeconds"]) == (1, 60 * 60 + 420)

    await eventually(restored, "the edit is reverted", BACK_SECONDS)
    await world.remove(DEPLOYMENT, "ava-worker")
    await eventually(restored, "the Deployment is restored", BACK_SECONDS)


async def test_old_configuration_is_deleted_after_its_last_worker(world: World) -> None:
    (old,) = await world.running("ava")
    old.calls = 1
    await world.declare("ava", persona={"instructions": "Speak like a pirate."})

    async def replaced() -> bool:
        return [worker.pod for worker in world.standin.of("ava")] not in ([old.pod], []) and old.draining

    await eventually(replaced, "a new worker takes calls and the old one drains")
    assert world.standin.is_in_call(old), "the old worker keeps its call"
    names = {document["metadata"]["name"] for document in await world.client.list(CONFIG_MAP, world.namespace)}
    assert len([name for name in names if name.startswith("ava-worker-")]) == 2
    await eventually(lambda: _draining(world), "the status counts the draining worker and its call")
    old.calls = 0

    async def one_configuration() -> bool:
        found = await world.client.list(CONFIG_MAP, world.namespace, "app.kubernetes.io/managed-by=avatar-agent")
        return len(found) == 1

    await eventually(one_configuration, "the old configuration is removed")
    await world.becomes("ava", "True")


async def _draining(world: World) -> bool:
    status = (await world.agent("ava"))["status"]
    return (status["workers"]["draining"], status["calls"]["active"]) == (1, 1)


async def test_deleted_agent_leaves_nothing(world: World) -> None:
    await world.running("ava")
    assert await world.child_names()
    await world.remove(AVATAR_AGENT, "ava")
    await eventually(world.nothing, "all children are gone", GONE_SECONDS)
    agent = await world.client.get(AVATAR_AGENT, world.namespace, "ava")
    assert agent is None, "no finalizer holds it"


async def test_two_agents_in_one_namespace_are_separate(world: World) -> None:
    world.standin.registered_name.update({"one": "name-one", "two": "name-two"})
    (worker,) = await world.running("one", agentName="name-one")
    await world.running("two", agentName="name-two")
    worker.calls = 1
    await world.counts_calls("one", 1)
    assert (await world.agent("two"))["status"]["calls"]["active"] == 0
    await world.remove(AVATAR_AGENT, "one")
    worker.calls = 0
    await eventually(lambda: world.nothing_of("one"), "one is gone", GONE_SECONDS)
    assert (await world.condition("two", ConditionType.WORKERS_REGISTERED))["status"] == "True"
    assert len(world.standin.of("two")) == 1
