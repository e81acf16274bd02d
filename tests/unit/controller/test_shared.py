"""The objects that agents of a namespace share: created once, restored, and deleted with the last worker."""

import asyncio

import pytest

from agentspec import ConditionType, Reason
from controller.policy.ownership import shared_name_conflict
from kube.client import ApiError
from kube.kinds import DEPLOYMENT, NETWORK_POLICY, POD, SERVICE_ACCOUNT, Kind
from tests.unit.controller.world import SETTLED_SECONDS, World
from tests.unit.fakes.apiserver import UNREACHABLE

NAME = "avatar-agent-worker"


def existing(world: World) -> tuple[set[str], set[str]]:
    """The names of all ServiceAccounts and of all NetworkPolicies."""
    return world.server.names(SERVICE_ACCOUNT), world.server.names(NETWORK_POLICY)


def applied(world: World) -> tuple[int, int]:
    """How often ServiceAccounts and NetworkPolicies were applied."""
    return world.server.requests["apply", "ServiceAccount"], world.server.requests["apply", "NetworkPolicy"]


async def test_concurrent_agents_create_shared_objects_once(world: World) -> None:
    await asyncio.gather(*(world.shared.ensure("shop") for _ in range(100)))
    assert existing(world) == ({NAME}, {NAME})
    assert applied(world) == (1, 1)
    await asyncio.sleep(SETTLED_SECONDS)
    await world.shared.ensure("shop")
    assert applied(world) == (1, 1)


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNT, NETWORK_POLICY])
async def test_deleted_shared_object_is_restored(world: World, kind: Kind) -> None:
    await world.reconcile()
    world.changed.clear()
    world.server.remove(kind, "shop", NAME)
    await asyncio.sleep(SETTLED_SECONDS)
    assert [key.name for key in world.changed] == [""], "the change concerns every agent of the namespace"
    await world.reconcile()
    assert existing(world) == ({NAME}, {NAME})


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNT, NETWORK_POLICY])
async def test_shared_object_of_another_owner_is_left_unchanged(world: World, kind: Kind) -> None:
    world.server.put(kind, {"metadata": {"namespace": "shop", "name": NAME, "labels": {"theirs": "yes"}}})
    verdict = shared_name_conflict("shop", await world.shared.occupants("shop"))
    assert verdict is not None
    assert verdict.reason is Reason.NAME_CONFLICT
    assert f"kubectl -n shop delete {kind.kind.lower()} {NAME}" in verdict.message
    await world.reconcile()
    assert world.server.requests["apply", kind.kind] == 0


async def test_shared_objects_end_with_the_last_agent_and_worker(world: World) -> None:
    await world.reconcile()
    world.put_pod("pod-1")
    await asyncio.sleep(SETTLED_SECONDS)
    await world.shared.remove_unused()
    assert existing(world) == ({NAME}, {NAME}), "an agent needs them"
    world.remove_agent()
    await world.shared.remove_unused()
    assert existing(world) == ({NAME}, {NAME}), "a worker still runs"
    world.server.remove(POD, "shop", "pod-1")
    await asyncio.sleep(SETTLED_SECONDS)
    await world.shared.remove_unused()
    assert existing(world) == (set(), set())
    await asyncio.sleep(SETTLED_SECONDS)
    before = len(world.server.writes)
    await world.shared.remove_unused()
    assert len(world.server.writes) == before
    await world.shared.ensure("shop")
    assert existing(world) == ({NAME}, {NAME}), "a new agent needs them again"


@pytest.mark.parametrize("namespace_deleted", [True, False])
async def test_state_of_unused_namespaces_is_dropped(world: World, namespace_deleted: bool) -> None:
    def cached(world: World) -> list[object]:
        kept = (world.children.service_accounts, world.children.network_policies)
        return [*world.shared._locks, *(key for kind in kept for key in kind._applied if key.namespace == "shop")]

    await world.shared.ensure("shop")
    await asyncio.sleep(SETTLED_SECONDS)
    await world.shared.remove_unused()
    assert cached(world)
    world.remove_agent()
    if namespace_deleted:  # with all its objects
        for kind in (SERVICE_ACCOUNT, NETWORK_POLICY):
            world.server.remove(kind, "shop", NAME)
    await asyncio.sleep(SETTLED_SECONDS)
    await world.shared.remove_unused()
    assert cached(world) == []


async def test_cleanup_leaves_objects_that_are_being_applied(world: World) -> None:
    world.remove_agent()
    applying = [asyncio.create_task(world.shared.ensure("shop")) for _ in range(3)]
    await asyncio.sleep(0)
    await world.shared.remove_unused()
    await asyncio.gather(*applying)
    assert applied(world) == (1, 1)


async def test_failed_deletion_is_retried(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.reconcile()
    world.remove_agent()
    world.server.failures["delete", "ServiceAccount"] = UNREACHABLE
    await world.shared.remove_unused()
    assert existing(world) == ({NAME}, {NAME})
    world.server.failures.clear()
    await world.shared.remove_unused()
    assert existing(world) == (set(), set())
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "could not delete shared objects, retrying"
    ]


async def test_failed_apply_fails_the_reconcile_that_needs_it(world: World) -> None:
    world.server.failures["apply", "NetworkPolicy"] = UNREACHABLE
    with pytest.raises(ApiError):
        await world.shared.ensure("shop")
    world.server.failures.clear()
    await asyncio.gather(*(world.shared.ensure("shop") for _ in range(3)))
    assert existing(world) == ({NAME}, {NAME})
    assert applied(world) == (1, 2)


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNT, NETWORK_POLICY])
async def test_forbidden_read_is_reported_and_nothing_is_created(world: World, kind: Kind) -> None:
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
