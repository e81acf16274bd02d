"""Children are applied when they differ from the cached objects, and only then."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from controller.cluster.children import HANGING_GRACE_SECONDS, Children
from controller.desired.identity import FIELD_MANAGER, Owner, metadata
from controller.desired.shared import service_account
from controller.observation import Key
from controller.policy.podannotations import DELETION_COST
from kube import informer as informers
from kube.client import ApiError, Document
from kube.kinds import CONFIG_MAP, DEPLOYMENT, POD, REPLICA_SET, SERVICE_ACCOUNT
from tests.unit.controller.builders import KEY
from tests.unit.fakes.apiserver import UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import VirtualLoop, use_loop_clock

OWNER = Owner("shop", "ava", "uid-1")
SHARED = Key("shop", "")
NAME = "ava-worker"


def deployment(replicas: int = 1) -> Document:
    template: Document = {"metadata": {}, "spec": {}}
    return {"metadata": metadata(OWNER, NAME), "spec": {"replicas": replicas, "template": template}}


class Scene:
    """The children of a controller that has just started, and their API server."""

    def __init__(self, server: FakeApiServer | None = None) -> None:
        self.server = server or FakeApiServer(FIELD_MANAGER)
        self.changed: list[Key] = []
        self.children = Children(self.server, "shop", self.changed.append)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the informers."""
        tasks = [asyncio.create_task(informer.run()) for informer in self.children.informers]
        try:
            await self.children.wait_synced()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def apply(self, document: Document | None = None) -> int:
        """Apply the workers' Deployment; return the number of writes."""
        before = self.server.requests["apply", "Deployment"]
        await self.children.deployments.apply(KEY, document or deployment())
        await asyncio.sleep(0.1)
        return self.server.requests["apply", "Deployment"] - before


@pytest.fixture
async def scene(virtual_time: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A scene whose informers run, in virtual time."""
    use_loop_clock(monkeypatch, informers)
    made = Scene()
    async with made.running():
        yield made


async def test_child_is_applied_once_for_each_desired_state(scene: Scene) -> None:
    assert [await scene.apply() for _ in range(3)] == [1, 0, 0]
    assert [await scene.apply(deployment(2)) for _ in range(2)] == [1, 0]
    assert [await scene.apply(deployment(1)) for _ in range(2)] == [1, 0], "so is the first number again"


def _edit(change: Callable[[Document], None]) -> Callable[[FakeApiServer], None]:
    def edit(server: FakeApiServer) -> None:
        document = deployment()
        change(document)
        server.put(DEPLOYMENT, document)

    return edit


def _scale(document: Document) -> None:
    document["spec"]["replicas"] = 9


def _unlabel(document: Document) -> None:
    document["metadata"]["labels"]["avataragents.io/agent"] = "eva"


def _unmanage(document: Document) -> None:
    document["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "another"


def _disown(document: Document) -> None:
    document["metadata"]["ownerReferences"] = []


def _delete(server: FakeApiServer) -> None:
    server.remove(DEPLOYMENT, "shop", NAME)


def _replace(server: FakeApiServer) -> None:
    _delete(server)
    server.put(DEPLOYMENT, deployment())


@pytest.mark.parametrize(
    "drift",
    [
        pytest.param(_edit(_scale), id="edited-spec"),
        pytest.param(_edit(_unlabel), id="other-agent-label"),
        pytest.param(_edit(_unmanage), id="other-operator-label"),
        pytest.param(_edit(_disown), id="removed-owner"),
        pytest.param(_delete, id="deleted"),
        pytest.param(_replace, id="replaced"),
    ],
)
async def test_drift_is_reported_and_corrected(scene: Scene, drift: Callable[[FakeApiServer], None]) -> None:
    await scene.apply()
    scene.changed.clear()
    drift(scene.server)
    await asyncio.sleep(0.1)
    assert KEY in scene.changed
    assert [await scene.apply() for _ in range(2)] == [1, 0]
    found = scene.children.deployments.get(KEY, NAME)
    assert found is not None
    assert (found.replicas, found.object.labels) == (1, deployment()["metadata"]["labels"])
    assert found.object.owners == (("AvatarAgent", "ava", "uid-1"),)


async def test_added_labels_and_annotations_are_kept(scene: Scene) -> None:
    await scene.apply()
    document = deployment()
    document["metadata"]["labels"]["team"] = "sales"
    document["metadata"]["annotations"] = {"note": "by hand"}
    scene.server.put(DEPLOYMENT, document)
    await asyncio.sleep(0.1)
    assert await scene.apply() == 0


async def test_changed_status_is_no_drift(scene: Scene) -> None:
    await scene.apply()
    scene.server.put(DEPLOYMENT, deployment() | {"status": {"replicas": 1}})
    await asyncio.sleep(0.1)
    assert await scene.apply() == 0


async def test_service_account_token_is_removed_again(scene: Scene) -> None:
    accounts = scene.children.service_accounts
    await accounts.apply(SHARED, service_account("shop"))
    scene.server.put(SERVICE_ACCOUNT, service_account("shop") | {"automountServiceAccountToken": True})
    await asyncio.sleep(0.1)
    for _ in range(2):
        await accounts.apply(SHARED, service_account("shop"))
    assert scene.server.requests["apply", "ServiceAccount"] == 2


async def test_restarted_controller_applies_once_without_a_change(scene: Scene) -> None:
    await scene.apply()
    version = scene.server.version
    restarted = Scene(scene.server)
    async with restarted.running():
        assert [await restarted.apply() for _ in range(2)] == [1, 0]
    assert scene.server.version == version


async def test_failed_apply_is_repeated(scene: Scene) -> None:
    scene.server.failures["apply", "Deployment"] = UNREACHABLE
    with pytest.raises(ApiError):
        await scene.apply()
    scene.server.failures.clear()
    assert [await scene.apply() for _ in range(2)] == [1, 0]


async def test_namesake_of_a_forgotten_agent_is_applied_again(scene: Scene) -> None:
    await scene.apply()
    scene.children.forget(KEY)
    assert await scene.apply() == 1


async def test_scaling_is_cached_at_once_and_applied_once_more(scene: Scene) -> None:
    await scene.apply()
    await scene.children.scale("shop", NAME, 5)
    found = scene.children.deployments.get(KEY, NAME)
    assert found is not None
    assert found.replicas == 5
    assert scene.server.written(DEPLOYMENT)[-1] == {"spec": {"replicas": 5}}
    assert [await scene.apply(deployment(5)) for _ in range(2)] == [1, 0]


async def test_object_of_another_owner_is_found_by_its_name(scene: Scene) -> None:
    assert await scene.children.deployments.existing(KEY, NAME) is None
    foreign = deployment()
    foreign["metadata"] = {"namespace": "shop", "name": NAME}
    scene.server.put(DEPLOYMENT, foreign)
    found = await scene.children.deployments.existing(KEY, NAME)
    assert found is not None
    assert (found.owners, found.labels) == ((), {})
    reads = scene.server.requests["get", "Deployment"]
    await scene.apply()
    assert await scene.children.deployments.existing(KEY, NAME) is not None
    assert scene.server.requests["get", "Deployment"] == reads, "own children are cached"


def pod(name: str, phase: str = "Running") -> Document:
    volumes = [{"name": "config", "configMap": {"name": "ava-worker-1"}}]
    return {"metadata": metadata(OWNER, name), "spec": {"volumes": volumes}, "status": {"phase": phase}}


async def test_ended_pods_are_not_workers(scene: Scene) -> None:
    for name, phase in {"one": "Running", "two": "Succeeded", "three": "Failed", "four": "Pending"}.items():
        scene.server.put(POD, pod(name, phase))
    await asyncio.sleep(0.1)
    assert [seen.name for seen in scene.children.pods(KEY)] == ["one", "four"]
    assert scene.children.namespaces_with_pods() == {"shop"}


async def test_annotations_are_set_and_removed_on_existing_pods(scene: Scene) -> None:
    scene.server.put(POD, pod("busy"))
    await asyncio.sleep(0.1)
    await scene.children.annotate_pods(KEY, {"deleted": {DELETION_COST: "1"}, "busy": {DELETION_COST: "2"}})
    assert [seen.annotations for seen in scene.children.pods(KEY)] == [{DELETION_COST: "2"}], "without the watch"
    await scene.children.annotate_pods(KEY, {"busy": {DELETION_COST: None}})
    assert [seen.annotations for seen in scene.children.pods(KEY)] == [{}]
    scene.server.failures["merge", "Pod"] = UNREACHABLE
    with pytest.raises(ApiError):
        await scene.children.annotate_pods(KEY, {"busy": {DELETION_COST: "3"}})


async def test_pods_are_deleted_with_a_short_grace_period(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.server.put(POD, pod("hangs"))
    await scene.children.delete_pods(KEY, ("hangs", "gone"))
    assert scene.server.written(POD) == [{"hangs": HANGING_GRACE_SECONDS}, {"gone": HANGING_GRACE_SECONDS}]
    scene.server.failures["delete", "Pod"] = ApiError(403, "Forbidden", "DELETE", "denied by a policy")
    await scene.children.delete_pods(KEY, ("hangs",))
    assert caplog.records[-1].message == "could not delete pod whose worker hangs"
    scene.server.failures["delete", "Pod"] = UNREACHABLE
    with pytest.raises(ApiError):
        await scene.children.delete_pods(KEY, ("hangs",))


async def test_rejected_annotations_are_not_sent_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.server.put(POD, pod("busy"))
    await asyncio.sleep(0.1)
    scene.server.failures["merge", "Pod"] = ApiError(403, "Forbidden", "PATCH", "denied by a policy")
    for _ in range(3):
        await scene.children.annotate_pods(KEY, {"busy": {DELETION_COST: "2"}})
    assert [record.message for record in caplog.records] == ["could not annotate pod"]
    del scene.server.failures["merge", "Pod"]
    await scene.children.annotate_pods(KEY, {"busy": {DELETION_COST: "3"}})
    assert [seen.annotations for seen in scene.children.pods(KEY)] == [{DELETION_COST: "3"}]


def replica_set(number: int, desired: int, running: int) -> Document:
    spec = {"volumes": [{"name": "config", "configMap": {"name": f"ava-worker-{number}"}}]}
    return {
        "metadata": metadata(OWNER, f"ava-worker-rs-{number}"),
        "spec": {"replicas": desired, "template": {"spec": spec}},
        "status": {"replicas": running},
    }


async def test_config_maps_of_active_replica_sets_are_found(scene: Scene) -> None:
    for number, (desired, running) in enumerate([(0, 0), (0, 1), (1, 0)]):
        scene.server.put(REPLICA_SET, replica_set(number, desired, running))
    assert await scene.children.config_maps_of_replica_sets(KEY) == {"ava-worker-1", "ava-worker-2"}


async def test_config_maps_are_cached_without_their_data(scene: Scene) -> None:
    scene.server.put(CONFIG_MAP, {"metadata": metadata(OWNER, "ava-worker-1"), "data": {"agent.json": "{}"}})
    await asyncio.sleep(0.1)
    assert set(scene.children.config_maps.informer.group(KEY)) == {"ava-worker-1"}
    await scene.children.config_maps.delete(KEY, "ava-worker-1")
    await asyncio.sleep(0.1)
    assert scene.server.names(CONFIG_MAP) == set()
    assert scene.children.config_maps.informer.group(KEY) == {}
