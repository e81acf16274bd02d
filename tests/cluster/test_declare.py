"""From a manifest to workers, and back to nothing."""

from typing import Any

import pytest

from agentspec import ConditionType, WorkerConfig
from agentspec.workerconfig import CONFIG_PATH
from controller.cluster.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT
from tests.cluster import manifests
from tests.cluster.process import WORKER_IMAGE, RunningController
from tests.cluster.world import World, eventually

pytestmark = pytest.mark.usefixtures("controller")


async def test_a_manifest_becomes_a_worker_registered_under_the_declared_name(world: World) -> None:
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "facts", **{"prices.md": "An hour is 500."}))
    world.standin.registered_name["ava"] = "the-declared-name"
    await world.declare(
        "ava", agentName="the-declared-name", language="ar", knowledge=[{"configMapRef": {"name": "facts"}}]
    )
    ready = await world.becomes("ava", "True")
    assert ready["reason"] == "AllChecksPassed"
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


async def test_pods_are_admitted_by_restricted_pod_security(world: World) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await world.client._request(
        "PATCH", f"/api/v1/namespaces/{world.namespace}", None, label, content_type="application/merge-patch+json"
    )
    await world.declare("ava")
    await world.becomes("ava", "True")


async def test_a_reconcile_that_changes_nothing_writes_nothing(world: World, controller: RunningController) -> None:
    await world.declare("ava")
    await world.becomes("ava", "True")
    foreign = {"metadata": {"annotations": {"example.com/owner": "somebody else"}}}
    await world.client.merge(DEPLOYMENT, world.namespace, "ava-worker", foreign)

    async def documents() -> list[dict[str, Any]]:
        deployment = await world.deployment("ava")
        assert deployment is not None
        return [await world.agent("ava"), deployment, *await world.client.list(CONFIG_MAP, world.namespace)]

    async def settled() -> bool:
        before = await documents()
        await controller.reconciles(world, "ava", 2)
        return await documents() == before

    # The Deployment's own status follows its pods for a moment.
    await eventually(lambda: _available(world), "the Deployment is available")
    await eventually(settled, "the numbers are written and stand still")
    before = await documents()
    await controller.reconciles(world, "ava", 3)
    assert await documents() == before
    assert before[1]["metadata"]["annotations"]["example.com/owner"] == "somebody else", "a foreign field survives"


async def _available(world: World) -> bool:
    deployment = await world.deployment("ava")
    return deployment is not None and deployment["status"].get("availableReplicas") == 1


async def test_an_edited_or_deleted_deployment_comes_back(world: World) -> None:
    await world.declare("ava")
    await world.becomes("ava", "True")
    edit = {"spec": {"replicas": 3, "template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
    await world.client.merge(DEPLOYMENT, world.namespace, "ava-worker", edit)

    async def restored() -> bool:
        found = await world.deployment("ava")
        if found is None:
            return False
        spec = found["spec"]
        return (spec["replicas"], spec["template"]["spec"]["terminationGracePeriodSeconds"]) == (1, 60 * 60 + 420)

    await eventually(restored, "the edit is undone", 10)
    await world.remove(DEPLOYMENT, "ava-worker")
    await eventually(restored, "the Deployment is back", 10)


async def test_a_new_configuration_rolls_new_workers_in_and_the_old_one_is_removed_after_them(world: World) -> None:
    await world.declare("ava")
    await world.becomes("ava", "True")
    (old,) = world.standin.of("ava")
    old.calls = 1
    await world.declare("ava", persona={"instructions": "Speak like a pirate."})

    async def replaced() -> bool:
        return [worker.pod for worker in world.standin.of("ava")] not in ([old.pod], []) and old.draining

    await eventually(replaced, "a new worker took over and the old one drains")
    assert old.pod in world.standin.workers, "it still has its call"
    names = {document["metadata"]["name"] for document in await world.client.list(CONFIG_MAP, world.namespace)}
    assert len([name for name in names if name.startswith("ava-worker-")]) == 2
    status = await eventually(lambda: _draining(world), "the status counts it as draining")
    assert status["calls"]["active"] == 1
    old.calls = 0

    async def one_configuration() -> bool:
        found = await world.client.list(CONFIG_MAP, world.namespace, "app.kubernetes.io/managed-by=avatar-agent")
        return len(found) == 1

    await eventually(one_configuration, "the old configuration is removed")
    await world.becomes("ava", "True")


async def _draining(world: World) -> dict[str, dict[str, int]]:
    status: dict[str, dict[str, int]] = (await world.agent("ava"))["status"]
    return status if status["workers"]["draining"] == 1 else {}


async def test_deletion_leaves_nothing(world: World) -> None:
    await world.declare("ava")
    await world.becomes("ava", "True")
    assert await world.children()
    await world.remove(AVATAR_AGENT, "ava")

    async def gone() -> bool:
        return not await world.children()

    # The garbage collector learns of a new kind of owner within half a minute after the CRD came.
    await eventually(gone, "all children are gone", 90.0)
    agent = await world.client.get(AVATAR_AGENT, world.namespace, "ava")
    assert agent is None, "no finalizer holds it"


async def test_two_agents_in_one_namespace_do_not_mix(world: World) -> None:
    await world.declare("one", agentName="name-one")
    await world.declare("two", agentName="name-two")
    world.standin.registered_name.update({"one": "name-one", "two": "name-two"})
    await world.becomes("one", "True")
    await world.becomes("two", "True")
    (worker,) = world.standin.of("one")
    worker.calls = 1
    await eventually(lambda: _active(world, "one", 1), "the call is counted")
    assert (await world.agent("two"))["status"]["calls"]["active"] == 0
    await world.remove(AVATAR_AGENT, "one")

    async def gone() -> bool:
        return all("/one-worker" not in child for child in await world.children())

    worker.calls = 0
    await eventually(gone, "one is gone")
    assert (await world.condition("two", ConditionType.WORKERS_REGISTERED))["status"] == "True"
    assert len(world.standin.of("two")) == 1


async def _active(world: World, name: str, calls: int) -> bool:
    return bool((await world.agent(name))["status"]["calls"]["active"] == calls)
