"""What a reconcile makes of inputs that cannot be read, or of which nobody can say yet whether they are good."""

import asyncio
from typing import Any

import pytest

from agentspec import ConditionType, Demand
from controller.observation import ProviderVerdict
from controller.policy.decide import NOT_READY_SECONDS
from kube.client import ApiError
from kube.kinds import CONFIG_MAP, DEPLOYMENT, EVENT, SECRET
from tests.unit.controller.builders import status
from tests.unit.controller.world import KEY, World, played
from tests.unit.fakes.apiserver import UNREACHABLE

READ_AGAIN_SECONDS = 25.0
"""After so long what is named has been read again."""
UNWELL = ApiError(500, "InternalError", "GET", "kms: unavailable")
ROOMY: dict[str, Any] = {"scaling": {"maxWorkers": 5, "freeSlots": 0}, "worker": {"callsPerWorker": 1}}


async def served(world: World) -> None:
    """One worker with one slot is registered."""
    world.put_agent(**ROOMY)
    await world.reconcile()
    world.put_pod("pod-1", status(agent_name="ava"))
    await world.rolled_out()


def four_wait(world: World) -> None:
    world.fleet.record_demand(Demand(gateway="g", pending={str(KEY): 4}), asyncio.get_running_loop().time())


def test_an_api_server_that_is_away_starts_nothing_and_its_return_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.server.failures["get", "Secret"] = UNREACHABLE
        assert await world.reconcile() == NOT_READY_SECONDS
        assert world.server.find(DEPLOYMENT, "shop", "ava-worker") is None
        told, reason, message = world.condition(ConditionType.CREDENTIALS_VALID)
        assert (told, reason) == ("Unknown", "SecretUnreadable")
        assert "connection refused" in message
        assert world.condition(ConditionType.READY)[:2] == ("False", "SecretUnreadable")
        world.server.failures.clear()
        world.changed.clear()
        await asyncio.sleep(NOT_READY_SECONDS)
        assert KEY in world.changed, "somebody is told that it can be read"
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_what_the_api_server_fails_to_read_stops_no_scaling(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async def scenario(world: World) -> None:
        facts = {"metadata": {"namespace": "shop", "name": "facts"}, "data": {"hours": "Nine to five."}}
        world.server.put(CONFIG_MAP, facts)
        await served(world)
        before = world.workers["spec"]["template"]
        world.put_agent(**ROOMY, knowledge=[{"configMapRef": {"name": "facts"}}])
        world.references.forget(KEY)  # another controller takes over
        world.server.failures["get", kind] = UNWELL
        four_wait(world)
        await world.rolled_out()
        assert world.replicas == 4
        assert world.workers["spec"]["template"] == before
        part, reason = {
            "Secret": (ConditionType.CREDENTIALS_VALID, "SecretUnreadable"),
            "ConfigMap": (ConditionType.KNOWLEDGE_LOADED, "ConfigMapUnreadable"),
        }[kind]
        assert world.condition(part)[:2] == ("Unknown", reason)
        assert "kms: unavailable" in world.condition(part)[2]
        assert world.condition(ConditionType.READY)[0] == "True", "calls are taken"

    played(monkeypatch, scenario)


def test_a_secret_that_may_not_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        before = world.workers
        world.server.failures["get", "Secret"] = ApiError(403, "Forbidden", "GET", 'secrets "openai" is forbidden')
        await asyncio.sleep(READ_AGAIN_SECONDS)
        await world.rolled_out()
        held, reason, message = world.condition(ConditionType.CREDENTIALS_VALID)
        assert (held, reason) == ("False", "SecretUnreadable")
        assert "is forbidden" in message
        assert world.workers == before
        assert world.server.find(SECRET, "shop", "openai") is not None

    played(monkeypatch, scenario)


def test_a_config_map_that_may_not_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(knowledge=[{"configMapRef": {"name": "facts"}}])
        world.server.failures["get", "ConfigMap"] = ApiError(403, "Forbidden", "GET", "configmaps is forbidden")
        await world.reconcile()
        held, reason, message = world.condition(ConditionType.KNOWLEDGE_LOADED)
        assert (held, reason) == ("False", "ConfigMapUnreadable")
        assert "configmaps is forbidden" in message
        assert world.condition(ConditionType.READY)[:2] == ("False", "ConfigMapUnreadable")
        assert world.server.find(DEPLOYMENT, "shop", "ava-worker") is None

    played(monkeypatch, scenario)


def test_no_worker_is_started_before_a_provider_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.providers.verdict = ProviderVerdict.PENDING
        await world.reconcile()
        assert world.server.find(DEPLOYMENT, "shop", "ava-worker") is None
        assert world.condition(ConditionType.CREDENTIALS_VALID)[:2] == ("Unknown", "CredentialsPending")
        assert world.condition(ConditionType.READY)[:2] == ("False", "CredentialsPending")
        registered, reason, message = world.condition(ConditionType.WORKERS_REGISTERED)
        assert (registered, reason) == ("False", "RolloutBlocked")
        assert message == "No worker starts until CredentialsValid is true."
        assert world.server.written(EVENT) == [], "there is nothing for a person to do"
        world.providers.verdict = ProviderVerdict.ACCEPTED
        await world.reconcile()
        assert world.replicas == 1
        assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "True"

    played(monkeypatch, scenario)


def test_workers_that_run_are_scaled_while_a_providers_answer_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await served(world)
        events = len(world.server.written(EVENT))
        world.providers.verdict = ProviderVerdict.PENDING
        four_wait(world)
        await world.reconcile()
        assert world.replicas == 4
        assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "True", "as it was found last"
        assert world.condition(ConditionType.READY)[0] == "True"
        assert len(world.server.written(EVENT)) == events

    played(monkeypatch, scenario)
