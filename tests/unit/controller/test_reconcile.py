"""One reconcile, from what is in the cluster to what is written into it and when to look again."""

import asyncio
from typing import Any

import pytest

from agentspec import ConditionType, Demand
from agentspec.wire import WorkerStatus
from controller.observation import Key, ProviderVerdict
from controller.policy.decide import NOT_READY_SECONDS, READY_SECONDS
from controller.policy.rollout import QUIET_SECONDS
from controller.report import NUMBERS_SECONDS
from kube.kinds import AVATAR_AGENT, DEPLOYMENT, POD, POD_DISRUPTION_BUDGET
from tests.unit.controller.builders import TAVUS, status
from tests.unit.controller.world import KEY, World, played

CREDENTIALS = "avataragents.io/credentials"
ANSWERED_SECONDS = 25.0
"""After so long a changed Secret has been read again."""


def template(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.workers["spec"]["template"]
    return found


def registered(**changes: Any) -> WorkerStatus:
    return status(agent_name="ava", **changes)


async def ready(world: World) -> float | None:
    """Started, with one worker that is registered."""
    await world.reconcile()
    world.put_pod("pod-1", registered())
    await world.reconcile()
    await asyncio.sleep(NUMBERS_SECONDS)
    return await world.reconcile()


def test_an_agent_becomes_ready_and_is_then_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        assert await world.reconcile() == NOT_READY_SECONDS
        assert world.condition(ConditionType.READY)[:2] == ("False", "WorkersStarting")
        assert await ready(world) == READY_SECONDS
        assert world.condition(ConditionType.READY)[:2] == ("True", "AllChecksPassed")
        agent = world.agents.get(KEY)
        assert agent is not None
        assert {one["type"] for one in agent.status["conditions"]} == {kind.value for kind in ConditionType}
        assert agent.status["observedGeneration"] == agent.generation
        assert agent.status["selector"].endswith("avataragents.io/agent=ava")
        assert agent.status["workers"] == {"desired": 1, "ready": 1, "registered": 1, "updated": 1, "draining": 0}
        assert agent.status["slots"] == {"total": 4, "free": 4}

    played(monkeypatch, scenario)


def test_its_own_write_makes_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await ready(world)
        written = world.server.find(AVATAR_AGENT, "shop", "ava")
        assert written is not None
        assert world.agents.update(written) == set()

    played(monkeypatch, scenario)


def test_calls_that_wait_bring_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(scaling={"maxWorkers": 3, "freeSlots": 0}, worker={"callsPerWorker": 2})
        await ready(world)
        world.fleet.record_demand(Demand(gateway="gateway-0", pending={str(KEY): 5}), 0.0)
        await world.reconcile()
        assert world.replicas == 3
        assert world.condition(ConditionType.SCALING_LIMITED)[:2] == ("False", "WithinLimits")
        world.fleet.record_demand(Demand(gateway="gateway-0", pending={str(KEY): 9}), 0.0)
        await world.reconcile()
        assert world.replicas == 3
        assert world.condition(ConditionType.SCALING_LIMITED)[:2] == ("True", "MaxWorkersReached")

    played(monkeypatch, scenario)


def test_time_alone_lets_a_worker_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(scaling={"freeSlots": 0, "scaleDownDelaySeconds": 30}, worker={"callsPerWorker": 1})
        world.fleet.record_demand(Demand(gateway="gateway-0", pending={str(KEY): 2}), 0.0)
        await ready(world)
        assert world.replicas == 2
        world.fleet.record_demand(Demand(gateway="gateway-0"), 0.0)
        await world.reconcile()
        await asyncio.sleep(NUMBERS_SECONDS)
        again_in = await world.reconcile()
        assert again_in is not None
        assert 20 < again_in < 30, "when the delay has passed"
        assert world.replicas == 2
        await asyncio.sleep(again_in)
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)


def test_a_changed_value_of_a_secret_rolls_new_workers_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        before = template(world)
        world.changed.clear()
        world.put_secret("openai", apiKey="second")
        await asyncio.sleep(ANSWERED_SECONDS)
        assert KEY in world.changed, "nobody has to look for it"
        await world.rolled_out()
        assert template(world) != before
        assert template(world)["spec"] == before["spec"]

    played(monkeypatch, scenario)


def test_what_workers_do_not_use_rolls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        before = template(world)
        world.put_secret("openai", apiKey="first\n", other="new")
        world.put_agent(scaling={"maxWorkers": 7})
        await asyncio.sleep(ANSWERED_SECONDS)
        await world.rolled_out()
        assert template(world) == before

    played(monkeypatch, scenario)


def test_a_manifest_and_a_secret_changed_together_make_one_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        await asyncio.sleep(5)
        world.put_agent(language="ar")
        await world.reconciler.reconcile(KEY)
        world.put_secret("openai", apiKey="second")
        await asyncio.sleep(QUIET_SECONDS - 0.1)
        await world.rolled_out()
        fingerprints = [one["spec"]["template"]["metadata"]["annotations"] for one in world.server.written(DEPLOYMENT)]
        assert len(fingerprints) == 2
        assert fingerprints[0][CREDENTIALS] != fingerprints[1][CREDENTIALS]

    played(monkeypatch, scenario)


def test_the_values_themselves_are_written_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(world: World) -> None:
        world.put_secret("openai", apiKey="sk-very-secret")
        await ready(world)
        assert "sk-very-secret" not in str(world.server.writes)

    with caplog.at_level("DEBUG"):
        played(monkeypatch, scenario)
    assert "sk-very-secret" not in caplog.text


def test_rejected_credentials_are_told_and_looked_at_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.providers.verdict = ProviderVerdict.REJECTED
        assert await world.reconcile() == NOT_READY_SECONDS
        assert world.condition(ConditionType.READY)[:2] == ("False", "CredentialsRejected")
        assert world.server.names(DEPLOYMENT) == set()
        world.providers.verdict = ProviderVerdict.ACCEPTED
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)


BAD_PATTERN = {"roomNamePattern": "("}


def test_a_bad_pattern_is_told_and_what_runs_goes_on_and_follows_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        room: dict[str, Any] = {"scaling": {"maxWorkers": 3, "freeSlots": 0}, "worker": {"callsPerWorker": 2}}
        world.put_agent(**room)
        await ready(world)
        before = world.workers["spec"]["template"]
        world.put_agent(**room, dispatch=BAD_PATTERN)
        world.fleet.record_demand(Demand(gateway="gateway-0", pending={str(KEY): 5}), asyncio.get_running_loop().time())
        await world.rolled_out()
        status_, reason, message = world.condition(ConditionType.READY)
        assert (status_, reason) == ("False", "InvalidSpec")
        assert "spec.dispatch.roomNamePattern" in message
        assert world.condition(ConditionType.PROGRESSING)[1:] == (
            "RolloutBlocked",
            "Running workers continue unchanged; the rollout is blocked until the manifest is corrected.",
        )
        assert world.condition(ConditionType.WORKERS_REGISTERED)[0] == "True"
        assert world.replicas == 3, "calls that wait still bring workers"
        assert world.workers["spec"]["template"] == before

    played(monkeypatch, scenario)


def test_an_agent_that_the_gateway_cannot_serve_is_ready_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(dispatch={"roomNamePattern": "^desk$"})
        await ready(world)
        status_, reason, message = world.condition(ConditionType.READY)
        assert (status_, reason) == ("True", "AllChecksPassed")
        assert "the gateway cannot take calls for this agent. spec.dispatch.roomNamePattern is '^desk$', and" in message

    played(monkeypatch, scenario)


def test_under_a_bad_pattern_a_deleted_deployment_is_missed_and_comes_back_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(world: World) -> None:
        await ready(world)
        world.put_agent(dispatch=BAD_PATTERN)
        await world.reconcile()
        world.server.remove(DEPLOYMENT, "shop", "ava-worker")
        world.server.remove(POD, "shop", "pod-1")
        assert await world.reconcile() == NOT_READY_SECONDS
        assert world.condition(ConditionType.WORKERS_REGISTERED) == (
            "False",
            "RolloutBlocked",
            "No worker starts until the manifest is corrected.",
        )
        agent = world.agents.get(KEY)
        assert agent is not None
        assert agent.status["workers"]["registered"] == 0
        assert world.server.names(DEPLOYMENT) == set()
        world.put_agent()
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)


def test_an_agent_whose_pattern_became_bad_keeps_its_name_from_a_younger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await ready(world)
        world.put_agent(dispatch=BAD_PATTERN)
        world.put_agent("eve", day=3, agentName="ava")
        await world.reconcile()
        await world.reconciler.reconcile(Key("shop", "eve"))
        assert world.condition(ConditionType.NAME_UNIQUE)[0] == "True"
        younger = world.agents.get(Key("shop", "eve"))
        assert younger is not None
        told = {one["type"]: one["reason"] for one in younger.status["conditions"]}
        assert told["NameUnique"] == "NameTaken"
        assert world.server.names(DEPLOYMENT) == {"ava-worker"}

    played(monkeypatch, scenario)


def test_a_suspended_agent_is_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(suspend=True)
        await world.reconcile()
        assert await world.reconcile() == READY_SECONDS
        assert world.condition(ConditionType.READY)[:2] == ("False", "Suspended")
        assert world.condition(ConditionType.PROGRESSING)[:2] == ("False", "Suspended")

    played(monkeypatch, scenario)


def test_seats_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_secret("tavus", apiKey="face")
        world.put_agent(avatar={**TAVUS, "maxSessions": 1})
        await ready(world)
        assert world.condition(ConditionType.AVATAR_AVAILABLE)[:2] == ("True", "AvatarSeatsFree")
        world.fleet.record_status(KEY, "pod-1", registered(calls=1, avatars=1), asyncio.get_running_loop().time())
        await world.reconcile()
        assert world.condition(ConditionType.AVATAR_AVAILABLE)[:2] == ("False", "AvatarSeatsTaken")
        assert world.condition(ConditionType.READY)[0] == "True", "the voice outlives the avatar"

    played(monkeypatch, scenario)


def metrics_of_the_agent(world: World) -> set[str]:
    samples = [sample for family in world.metrics.registry.collect() for sample in family.samples]
    return {sample.name for sample in samples if sample.labels.get("agent") == "ava"}


def test_of_an_agent_that_is_deleted_nothing_is_kept_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await ready(world)
        assert metrics_of_the_agent(world)
        world.remove_agent()
        world.server.remove(POD, "shop", "pod-1")
        written, reads = len(world.server.writes), world.server.requests["get", "Secret"]
        assert await world.reconcile() is None
        assert await world.reconcile() is None, "and again, if somebody asks"
        await asyncio.sleep(120)
        assert len(world.server.writes) == written
        assert world.server.requests["get", "Secret"] == reads, "nobody reads its Secrets any more"
        assert world.fleet.agents == {}
        assert metrics_of_the_agent(world) == set()

    played(monkeypatch, scenario)


def test_what_was_said_stands_while_another_controller_tries_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await ready(world)
        written = len(world.server.writes)
        world.providers.verdict = ProviderVerdict.PENDING
        await world.reconcile()
        assert len(world.server.writes) == written
        world.providers.verdict = ProviderVerdict.REJECTED
        await world.reconcile()
        assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "False"
        world.put_agent(language="ar")
        world.providers.verdict = ProviderVerdict.PENDING
        await world.reconcile()
        assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "Unknown", "of this one nothing was said yet"

    played(monkeypatch, scenario)


_FACTS = ("selector", "agentName", "workers")


def test_a_manifest_of_a_newer_release_stops_nothing_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await ready(world)
        before = world.agents.get(KEY)
        assert before is not None
        world.put_agent(fieldOfANewerRelease=1)
        await world.reconcile()
        assert world.condition(ConditionType.READY)[:2] == ("False", "InvalidSpec")
        after = world.agents.get(KEY)
        assert after is not None
        assert [after.status[told] for told in _FACTS] == [before.status[told] for told in _FACTS]
        told = {"agent_namespace": "shop", "agent": "ava"}
        assert world.metrics.registry.get_sample_value("avatar_agent_controller_ready", told) == 0
        world.fleet.record_demand(Demand(gateway="g", pending={str(KEY): 40}), asyncio.get_running_loop().time())
        await world.reconcile()
        assert world.replicas > 1, "calls go on being answered"

    played(monkeypatch, scenario)


def test_a_namesake_of_a_deleted_agent_is_another_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        before = template(world)["metadata"]["annotations"][CREDENTIALS]
        world.remove_agent()
        await world.reconcile()
        world.server.remove(DEPLOYMENT, "shop", "ava-worker")
        world.server.remove(POD_DISRUPTION_BUDGET, "shop", "ava-worker")
        world.put_agent(uid="uid-other")
        await world.rolled_out()
        assert template(world)["metadata"]["annotations"][CREDENTIALS] != before, "nobody compares agents' values"
        assert world.workers["metadata"]["ownerReferences"][0]["uid"] == "uid-other"

    played(monkeypatch, scenario)
