"""A child is applied when it differs, and only then."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controller.cluster.children import Children
from controller.desired.identity import FIELD_MANAGER, Owner, metadata
from controller.desired.shared import service_account
from controller.observation import Key
from kube import informer as informers
from kube.client import ApiError, Document
from kube.kinds import CONFIG_MAP, DEPLOYMENT, POD, REPLICA_SET, SERVICE_ACCOUNT
from tests.unit.fakes.apiserver import UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import run, use_loop_clock

OWNER = Owner("shop", "ava", "uid-1")
KEY = Key("shop", "ava")
SHARED = Key("shop", "")
NAME = "ava-worker"


def deployment(replicas: int = 1) -> Document:
    template: Document = {"metadata": {}, "spec": {}}
    return {"metadata": metadata(OWNER, NAME), "spec": {"replicas": replicas, "template": template}}


class Scene:
    """Children of agents, as a controller that has just started keeps them."""

    def __init__(self, server: FakeApiServer | None = None) -> None:
        self.server = server or FakeApiServer(FIELD_MANAGER)
        self.changed: list[Key] = []
        self.children = Children(self.server, "shop", self.changed.append)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(informer.run()) for informer in self.children.informers]
        try:
            await self.children.wait_synced()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def apply(self, document: Document | None = None) -> int:
        """Apply the workers' Deployment; how many writes that took."""
        before = self.server.requests["apply", "Deployment"]
        await self.children.deployments.apply(KEY, document or deployment())
        await asyncio.sleep(0.1)
        return self.server.requests["apply", "Deployment"] - before


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    use_loop_clock(monkeypatch, informers)


def played(scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        scene = Scene()
        async with scene.running():
            await scenario(scene)

    run(play())


def test_it_is_applied_once_and_again_when_it_should_be_another() -> None:
    async def scenario(scene: Scene) -> None:
        assert [await scene.apply() for _ in range(3)] == [1, 0, 0]
        assert [await scene.apply(deployment(2)) for _ in range(2)] == [1, 0]
        assert [await scene.apply(deployment(1)) for _ in range(2)] == [1, 0], "back to what it was is another, too"

    played(scenario)


def _edited(change: Callable[[Document], None]) -> Callable[[FakeApiServer], None]:
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
    document["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody"


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
        pytest.param(_edited(_scale), id="its spec was edited"),
        pytest.param(_edited(_unlabel), id="it was labelled as another agent's"),
        pytest.param(_edited(_unmanage), id="it was labelled as another operator's"),
        pytest.param(_edited(_disown), id="its owner was removed"),
        pytest.param(_delete, id="it was deleted"),
        pytest.param(_replace, id="it was deleted and made anew by somebody"),
    ],
)
def test_what_somebody_changed_is_told_and_put_right(drift: Callable[[FakeApiServer], None]) -> None:
    async def scenario(scene: Scene) -> None:
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

    played(scenario)


def test_labels_and_annotations_that_somebody_added_are_left() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.apply()
        document = deployment()
        document["metadata"]["labels"]["team"] = "sales"
        document["metadata"]["annotations"] = {"note": "by hand"}
        scene.server.put(DEPLOYMENT, document)
        await asyncio.sleep(0.1)
        assert await scene.apply() == 0

    played(scenario)


def test_a_status_that_changes_is_no_drift() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.apply()
        scene.server.put(DEPLOYMENT, deployment() | {"status": {"replicas": 1}})
        await asyncio.sleep(0.1)
        assert await scene.apply() == 0

    played(scenario)


def test_a_service_account_given_a_token_loses_it_again() -> None:
    async def scenario(scene: Scene) -> None:
        accounts = scene.children.service_accounts
        await accounts.apply(SHARED, service_account("shop"))
        scene.server.put(SERVICE_ACCOUNT, service_account("shop") | {"automountServiceAccountToken": True})
        await asyncio.sleep(0.1)
        for _ in range(2):
            await accounts.apply(SHARED, service_account("shop"))
        assert scene.server.requests["apply", "ServiceAccount"] == 2

    played(scenario)


def test_after_a_restart_everything_is_applied_once_and_changes_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.apply()
        version = scene.server.version
        restarted = Scene(scene.server)
        async with restarted.running():
            assert [await restarted.apply() for _ in range(2)] == [1, 0]
        assert scene.server.version == version

    played(scenario)


def test_what_could_not_be_applied_is_applied_the_next_time() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.failures["apply", "Deployment"] = UNREACHABLE
        with pytest.raises(ApiError):
            await scene.apply()
        scene.server.failures.clear()
        assert [await scene.apply() for _ in range(2)] == [1, 0]

    played(scenario)


def test_a_forgotten_agents_namesake_begins_anew() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.apply()
        scene.children.forget(KEY)
        assert await scene.apply() == 1

    played(scenario)


def test_scaling_changes_the_number_and_is_seen_at_once_and_the_next_apply_says_it_again() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.apply()
        await scene.children.scale("shop", NAME, 5)
        found = scene.children.deployments.get(KEY, NAME)
        assert found is not None
        assert found.replicas == 5
        assert scene.server.written(DEPLOYMENT)[-1] == {"spec": {"replicas": 5}}
        assert [await scene.apply(deployment(5)) for _ in range(2)] == [1, 0]

    played(scenario)


def test_whatever_stands_under_a_name_is_found_whoever_made_it() -> None:
    async def scenario(scene: Scene) -> None:
        assert await scene.children.deployments.existing(KEY, NAME) is None
        theirs = deployment()
        theirs["metadata"] = {"namespace": "shop", "name": NAME}
        scene.server.put(DEPLOYMENT, theirs)
        found = await scene.children.deployments.existing(KEY, NAME)
        assert found is not None
        assert (found.owners, found.labels) == ((), {})
        asked = scene.server.requests["get", "Deployment"]
        await scene.apply()
        assert await scene.children.deployments.existing(KEY, NAME) is not None
        assert scene.server.requests["get", "Deployment"] == asked, "its own are known"

    played(scenario)


def pod(name: str, phase: str = "Running") -> Document:
    volumes = [{"name": "config", "configMap": {"name": "ava-worker-1"}}]
    return {"metadata": metadata(OWNER, name), "spec": {"volumes": volumes}, "status": {"phase": phase}}


def test_pods_that_have_ended_are_not_workers() -> None:
    async def scenario(scene: Scene) -> None:
        for name, phase in {"one": "Running", "two": "Succeeded", "three": "Failed", "four": "Pending"}.items():
            scene.server.put(POD, pod(name, phase))
        await asyncio.sleep(0.1)
        assert [seen.name for seen in scene.children.pods(KEY)] == ["one", "four"]
        assert scene.children.namespaces_with_pods() == {"shop"}

    played(scenario)


def test_prices_are_told_and_a_pod_that_is_gone_needs_none() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(POD, pod("busy"))
        await asyncio.sleep(0.1)
        await scene.children.set_deletion_costs("shop", {"gone": "1", "busy": "2"})
        await asyncio.sleep(0.1)
        assert [seen.deletion_cost for seen in scene.children.pods(KEY)] == ["2"]
        scene.server.failures["merge", "Pod"] = UNREACHABLE
        with pytest.raises(ApiError):
            await scene.children.set_deletion_costs("shop", {"busy": "3"})

    played(scenario)


def replica_set(number: int, wanted: int, there: int) -> Document:
    spec = {"volumes": [{"name": "config", "configMap": {"name": f"ava-worker-{number}"}}]}
    return {
        "metadata": metadata(OWNER, f"ava-worker-rs-{number}"),
        "spec": {"replicas": wanted, "template": {"spec": spec}},
        "status": {"replicas": there},
    }


def test_configurations_that_pods_can_still_be_started_with() -> None:
    async def scenario(scene: Scene) -> None:
        for number, (wanted, there) in enumerate([(0, 0), (0, 1), (1, 0)]):
            scene.server.put(REPLICA_SET, replica_set(number, wanted, there))
        assert await scene.children.config_maps_of_replica_sets(KEY) == {"ava-worker-1", "ava-worker-2"}

    played(scenario)


def test_only_what_tells_whose_it_is_is_kept_of_configurations() -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.put(CONFIG_MAP, {"metadata": metadata(OWNER, "ava-worker-1"), "data": {"agent.json": "{}"}})
        await asyncio.sleep(0.1)
        assert set(scene.children.config_maps.informer.group(KEY)) == {"ava-worker-1"}
        await scene.children.config_maps.delete(KEY, "ava-worker-1")
        await asyncio.sleep(0.1)
        assert scene.server.names(CONFIG_MAP) == set()
        assert scene.children.config_maps.informer.group(KEY) == {}

    played(scenario)
