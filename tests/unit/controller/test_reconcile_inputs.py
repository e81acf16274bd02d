"""Reconciles whose Secrets or ConfigMaps cannot be read, or whose credentials are not probed yet."""

import asyncio
from typing import Any

import pytest

from agentspec import ConditionType
from controller.observation import ProviderVerdict
from controller.policy.decide import NOT_READY_SECONDS
from kube.client import ApiError
from kube.kinds import CONFIG_MAP, DEPLOYMENT, EVENT, SECRET
from tests.unit.controller.builders import KEY, config_map, status
from tests.unit.controller.world import World
from tests.unit.fakes.apiserver import UNREACHABLE

REFRESHED_SECONDS = 25.0
"""Longer than it takes to read every reference again."""
FAILED = ApiError(500, "InternalError", "GET", "kms: unavailable")
ROOMY: dict[str, Any] = {"scaling": {"maxWorkers": 5, "freeSlots": 0}, "worker": {"callsPerWorker": 1}}


async def serve(world: World) -> None:
    """Start the agent with one registered worker that has one slot."""
    world.put_agent(**ROOMY)
    await world.reconcile()
    world.put_pod("pod-1", status())
    await world.roll_out()


async def test_no_worker_starts_while_the_api_server_is_unreachable(world: World) -> None:
    world.server.failures["get", "Secret"] = UNREACHABLE
    assert await world.reconcile() == NOT_READY_SECONDS
    assert world.server.find(DEPLOYMENT, "shop", "ava-worker") is None
    state, reason, message = world.condition(ConditionType.CREDENTIALS_VALID)
    assert (state, reason) == ("Unknown", "SecretUnreadable")
    assert "connection refused" in message
    assert world.condition(ConditionType.READY)[:2] == ("False", "SecretUnreadable")
    world.server.failures.clear()
    world.changed.clear()
    await asyncio.sleep(NOT_READY_SECONDS)
    assert KEY in world.changed, "the refresh reports that the Secret is readable again"
    await world.reconcile()
    assert world.replicas == 1


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
async def test_workers_scale_while_reads_fail(world: World, kind: str) -> None:
    world.server.put(CONFIG_MAP, config_map("facts", hours="Nine to five."))
    await serve(world)
    before = world.template
    world.put_agent(**ROOMY, knowledge=[{"configMapRef": {"name": "facts"}}])
    world.references.forget(KEY)  # as in a new leader
    world.server.failures["get", kind] = FAILED
    world.set_pending_calls(4)
    await world.roll_out()
    assert world.replicas == 4
    assert world.template == before
    part, reason = {
        "Secret": (ConditionType.CREDENTIALS_VALID, "SecretUnreadable"),
        "ConfigMap": (ConditionType.KNOWLEDGE_LOADED, "ConfigMapUnreadable"),
    }[kind]
    assert world.condition(part)[:2] == ("Unknown", reason)
    assert "kms: unavailable" in world.condition(part)[2]
    assert world.condition(ConditionType.READY)[0] == "True", "workers still take calls"


async def test_forbidden_secret_is_reported(world: World) -> None:
    await world.roll_out()
    before = world.workers
    world.server.failures["get", "Secret"] = ApiError(403, "Forbidden", "GET", 'secrets "openai" is forbidden')
    await asyncio.sleep(REFRESHED_SECONDS)
    await world.roll_out()
    state, reason, message = world.condition(ConditionType.CREDENTIALS_VALID)
    assert (state, reason) == ("False", "SecretUnreadable")
    assert "is forbidden" in message
    assert world.workers == before
    assert world.server.find(SECRET, "shop", "openai") is not None


async def test_forbidden_config_map_is_reported(world: World) -> None:
    world.put_agent(knowledge=[{"configMapRef": {"name": "facts"}}])
    world.server.failures["get", "ConfigMap"] = ApiError(403, "Forbidden", "GET", "configmaps is forbidden")
    await world.reconcile()
    state, reason, message = world.condition(ConditionType.KNOWLEDGE_LOADED)
    assert (state, reason) == ("False", "ConfigMapUnreadable")
    assert "configmaps is forbidden" in message
    assert world.condition(ConditionType.READY)[:2] == ("False", "ConfigMapUnreadable")
    assert world.server.find(DEPLOYMENT, "shop", "ava-worker") is None


async def test_no_worker_starts_before_credentials_are_probed(world: World) -> None:
    world.providers.verdict = ProviderVerdict.PENDING
    await world.reconcile()
    assert world.server.find(DEPLOYMENT, "shop", "ava-worker") is None
    assert world.condition(ConditionType.CREDENTIALS_VALID)[:2] == ("Unknown", "CredentialsPending")
    assert world.condition(ConditionType.READY)[:2] == ("False", "CredentialsPending")
    registered, reason, message = world.condition(ConditionType.WORKERS_REGISTERED)
    assert (registered, reason) == ("False", "RolloutBlocked")
    cause = world.condition(ConditionType.CREDENTIALS_VALID)[2]
    assert message == f"No worker starts until CredentialsValid is true. {cause}"
    assert world.server.written(EVENT) == [], "there is nothing to act on"
    world.providers.verdict = ProviderVerdict.ACCEPTED
    await world.reconcile()
    assert world.replicas == 1
    assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "True"


async def test_running_workers_scale_while_credentials_are_probed(world: World) -> None:
    await serve(world)
    events = len(world.server.written(EVENT))
    world.providers.verdict = ProviderVerdict.PENDING
    world.set_pending_calls(4)
    await world.reconcile()
    assert world.replicas == 4
    assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "True", "the last result is kept"
    assert world.condition(ConditionType.READY)[0] == "True"
    assert len(world.server.written(EVENT)) == events
