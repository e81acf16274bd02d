"""Shared objects of a namespace: created once, restored, and deleted with the last agent and worker."""

import asyncio

import pytest

from agentspec import ConditionType, Reason
from controller.policy.ownership import shared_name_conflict
from kube.client import ApiError
from kube.kinds import DEPLOYMENT, NETWORK_POLICY, POD, SERVICE_ACCOUNT, Kind
from tests.unit.controller.world import SETTLED_SECONDS, World, played
from tests.unit.fakes.apiserver import UNREACHABLE

NAME = "avatar-agent-worker"


def there(world: World) -> tuple[set[str], set[str]]:
    return world.server.names(SERVICE_ACCOUNT), world.server.names(NETWORK_POLICY)


def applied(world: World) -> tuple[int, int]:
    return world.server.requests["apply", "ServiceAccount"], world.server.requests["apply", "NetworkPolicy"]


def test_a_hundred_agents_create_shared_objects_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(*(world.shared.ensure("shop") for _ in range(100)))
        assert there(world) == ({NAME}, {NAME})
        assert applied(world) == (1, 1)
        await asyncio.sleep(SETTLED_SECONDS)
        await world.shared.ensure("shop")
        assert applied(world) == (1, 1)

    played(monkeypatch, scenario)


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNT, NETWORK_POLICY])
def test_deleted_shared_object_is_restored(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    async def scenario(world: World) -> None:
        await world.reconcile()
        world.changed.clear()
        world.server.remove(kind, "shop", NAME)
        await asyncio.sleep(SETTLED_SECONDS)
        assert [key.name for key in world.changed] == [""], "whichever agent of the namespace looks after it"
        await world.reconcile()
        assert there(world) == ({NAME}, {NAME})

    played(monkeypatch, scenario)


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNT, NETWORK_POLICY])
def test_foreign_shared_object_is_not_changed(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    async def scenario(world: World) -> None:
        world.server.put(kind, {"metadata": {"namespace": "shop", "name": NAME, "labels": {"theirs": "yes"}}})
        verdict = shared_name_conflict("shop", await world.shared.occupants("shop"))
        assert verdict is not None
        assert verdict.reason is Reason.NAME_CONFLICT
        assert f"kubectl -n shop delete {kind.kind.lower()} {NAME}" in verdict.message
        await world.reconcile()
        assert world.server.requests["apply", kind.kind] == 0

    played(monkeypatch, scenario)


def test_shared_objects_go_with_the_last_agent_and_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.reconcile()
        world.put_pod("pod-1")
        await asyncio.sleep(SETTLED_SECONDS)
        await world.shared.remove_unused()
        assert there(world) == ({NAME}, {NAME}), "there is an agent"
        world.remove_agent()
        await world.shared.remove_unused()
        assert there(world) == ({NAME}, {NAME}), "its worker finishes a call"
        world.server.remove(POD, "shop", "pod-1")
        await asyncio.sleep(SETTLED_SECONDS)
        await world.shared.remove_unused()
        assert there(world) == (set(), set())
        await asyncio.sleep(SETTLED_SECONDS)
        before = len(world.server.writes)
        await world.shared.remove_unused()
        assert len(world.server.writes) == before
        await world.shared.ensure("shop")
        assert there(world) == ({NAME}, {NAME}), "a new agent needs it again"

    played(monkeypatch, scenario)


@pytest.mark.parametrize("namespace_deleted", [True, False])
def test_state_of_deleted_namespaces_is_dropped(monkeypatch: pytest.MonkeyPatch, namespace_deleted: bool) -> None:
    def remembered(world: World) -> list[object]:
        kept = (world.children.service_accounts, world.children.network_policies)
        return [*world.shared._locks, *(key for kind in kept for key in kind._applied if key.namespace == "shop")]

    async def scenario(world: World) -> None:
        await world.shared.ensure("shop")
        await asyncio.sleep(SETTLED_SECONDS)
        await world.shared.remove_unused()
        assert remembered(world)
        world.remove_agent()
        if namespace_deleted:  # and what was in it with it
            for kind in (SERVICE_ACCOUNT, NETWORK_POLICY):
                world.server.remove(kind, "shop", NAME)
        await asyncio.sleep(SETTLED_SECONDS)
        await world.shared.remove_unused()
        assert remembered(world) == []

    played(monkeypatch, scenario)


def test_sweep_does_not_disturb_a_running_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.remove_agent()
        making = [asyncio.create_task(world.shared.ensure("shop")) for _ in range(3)]
        await asyncio.sleep(0)
        await world.shared.remove_unused()
        await asyncio.gather(*making)
        assert applied(world) == (1, 1)

    played(monkeypatch, scenario)


def test_failed_deletion_is_retried(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: World) -> None:
        await world.reconcile()
        world.remove_agent()
        world.server.failures["delete", "ServiceAccount"] = UNREACHABLE
        await world.shared.remove_unused()
        assert there(world) == ({NAME}, {NAME})
        world.server.failures.clear()
        await world.shared.remove_unused()
        assert there(world) == (set(), set())

    played(monkeypatch, scenario)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "could not delete shared objects, retrying"
    ]


def test_failure_is_raised_in_the_reconcile(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.server.failures["apply", "NetworkPolicy"] = UNREACHABLE
        with pytest.raises(ApiError):
            await world.shared.ensure("shop")
        world.server.failures.clear()
        await asyncio.gather(*(world.shared.ensure("shop") for _ in range(3)))
        assert there(world) == ({NAME}, {NAME})
        assert applied(world) == (1, 2)

    played(monkeypatch, scenario)


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNT, NETWORK_POLICY])
def test_missing_read_permission_is_reported(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    async def scenario(world: World) -> None:
        world.server.failures["get", kind.kind] = ApiError(403, "Forbidden", "GET", f"{kind.plural} is forbidden")
        await world.reconcile()
        status, reason, message = world.condition(ConditionType.READY)
        assert (status, reason) == ("False", "ApplyRejected")
        assert f"{kind.plural} is forbidden" in message
        assert world.condition(ConditionType.PROGRESSING)[1] == "RolloutBlocked"
        assert world.server.names(DEPLOYMENT) == set()
        world.server.failures.clear()
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)
