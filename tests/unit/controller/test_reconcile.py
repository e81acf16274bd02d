"""Whole reconciles: from the objects in the cluster to children, status, metrics and the next reconcile."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentspec import ConditionType
from agentspec.wire import StageFailure, StageReport, StageReports
from controller.observation import ProviderVerdict
from controller.policy.decide import NOT_READY_SECONDS, READY_SECONDS
from controller.policy.rollout import QUIET_SECONDS
from controller.report import NUMBERS_SECONDS
from kube.client import ApiError
from kube.kinds import AVATAR_AGENT, DEPLOYMENT, EVENT, POD, POD_DISRUPTION_BUDGET
from tests.unit.controller.builders import KEY, OTHER, SPEC, TAVUS, status
from tests.unit.controller.world import World
from tests.unit.fakes.apiserver import UNREACHABLE

CREDENTIALS = "avataragents.io/credentials"
REFRESHED_SECONDS = 25.0
"""Longer than it takes to read a changed Secret again."""
BAD_PATTERN = {"roomNamePattern": "("}


async def test_agent_with_registered_workers_is_ready(world: World) -> None:
    assert await world.reconcile() == NOT_READY_SECONDS
    assert world.condition(ConditionType.READY)[:2] == ("False", "WorkersStarting")
    assert await world.become_ready() == READY_SECONDS
    assert world.condition(ConditionType.READY)[:2] == ("True", "AllChecksPassed")
    agent = world.agents.get(KEY)
    assert agent is not None
    assert {one["type"] for one in agent.status["conditions"]} == {kind.value for kind in ConditionType}
    assert agent.status["observedGeneration"] == agent.generation
    assert agent.status["selector"].endswith("avataragents.io/agent=ava")
    assert agent.status["workers"] == {"desired": 1, "ready": 1, "registered": 1, "updated": 1, "draining": 0}
    assert agent.status["slots"] == {"total": 4, "free": 4}


async def test_own_status_write_causes_no_reconcile(world: World) -> None:
    await world.become_ready()
    written = world.server.find(AVATAR_AGENT, "shop", "ava")
    assert written is not None
    assert world.agents.update(written) == set()


async def test_waiting_calls_start_workers_up_to_the_maximum(world: World) -> None:
    world.put_agent(scaling={"maxWorkers": 3, "freeSlots": 0}, worker={"callsPerWorker": 2})
    await world.become_ready()
    world.set_pending_calls(5)
    await world.reconcile()
    assert world.replicas == 3
    assert world.condition(ConditionType.SCALING_LIMITED)[:2] == ("False", "WithinLimits")
    world.set_pending_calls(9)
    await world.reconcile()
    assert world.replicas == 3
    assert world.condition(ConditionType.SCALING_LIMITED)[:2] == ("True", "MaxWorkersReached")


async def test_scale_down_happens_after_the_delay_without_an_event(world: World) -> None:
    world.put_agent(scaling={"freeSlots": 0, "scaleDownDelaySeconds": 30}, worker={"callsPerWorker": 1})
    world.set_pending_calls(2)
    await world.become_ready()
    assert world.replicas == 2
    world.set_pending_calls(0)
    await world.reconcile()
    await asyncio.sleep(NUMBERS_SECONDS)
    requeue_after = await world.reconcile()
    assert requeue_after is not None
    assert 20 < requeue_after < 30, "at the end of the delay"
    assert world.replicas == 2
    await asyncio.sleep(requeue_after)
    await world.reconcile()
    assert world.replicas == 1


async def test_changed_secret_value_causes_a_rollout(world: World) -> None:
    await world.roll_out()
    before = world.template
    world.changed.clear()
    world.put_secret("openai", apiKey="second")
    await asyncio.sleep(REFRESHED_SECONDS)
    assert KEY in world.changed, "the refresh reports the change"
    await world.roll_out()
    assert world.template != before
    assert world.template["spec"] == before["spec"]


async def test_changes_that_workers_do_not_use_cause_no_rollout(world: World) -> None:
    await world.roll_out()
    before = world.template
    world.put_secret("openai", apiKey="first\n", other="new")
    world.put_agent(scaling={"maxWorkers": 7})
    await asyncio.sleep(REFRESHED_SECONDS)
    await world.roll_out()
    assert world.template == before


async def test_manifest_and_secret_changed_together_make_one_rollout(world: World) -> None:
    await world.roll_out()
    await asyncio.sleep(5)
    world.put_agent(language="ar")
    await world.reconciler.reconcile(KEY)
    world.put_secret("openai", apiKey="second")
    await asyncio.sleep(QUIET_SECONDS - 0.1)
    await world.roll_out()
    fingerprints = [one["spec"]["template"]["metadata"]["annotations"] for one in world.server.written(DEPLOYMENT)]
    assert len(fingerprints) == 2
    assert fingerprints[0][CREDENTIALS] != fingerprints[1][CREDENTIALS]


async def test_secret_values_are_neither_written_nor_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        world.put_secret("openai", apiKey="sk-very-secret")
        await world.become_ready()
        assert "sk-very-secret" not in str(world.server.writes)
    assert "sk-very-secret" not in caplog.text


async def test_rejected_credentials_are_reported_and_checked_again_soon(world: World) -> None:
    world.providers.verdict = ProviderVerdict.REJECTED
    assert await world.reconcile() == NOT_READY_SECONDS
    assert world.condition(ConditionType.READY)[:2] == ("False", "CredentialsRejected")
    assert world.server.names(DEPLOYMENT) == set()
    world.providers.verdict = ProviderVerdict.ACCEPTED
    await world.reconcile()
    assert world.replicas == 1


async def test_workers_keep_running_and_scaling_under_a_bad_pattern(world: World) -> None:
    room: dict[str, Any] = {"scaling": {"maxWorkers": 3, "freeSlots": 0}, "worker": {"callsPerWorker": 2}}
    world.put_agent(**room)
    await world.become_ready()
    before = world.template
    world.put_agent(**room, dispatch=BAD_PATTERN)
    world.set_pending_calls(5)
    await world.roll_out()
    status_, reason, message = world.condition(ConditionType.READY)
    assert (status_, reason) == ("False", "InvalidSpec")
    assert "spec.dispatch.roomNamePattern" in message
    assert world.condition(ConditionType.PROGRESSING)[1:] == (
        "RolloutBlocked",
        f"Running workers continue unchanged; the rollout is blocked until the manifest is corrected. {message}",
    )
    assert world.condition(ConditionType.WORKERS_REGISTERED)[0] == "True"
    assert world.replicas == 3, "waiting calls still start workers"
    assert world.template == before


async def test_agent_without_gateway_calls_is_ready_with_a_warning(world: World) -> None:
    world.put_agent(dispatch={"roomNamePattern": "^desk$"})
    await world.become_ready()
    status_, reason, message = world.condition(ConditionType.READY)
    assert (status_, reason) == ("True", "AllChecksPassed")
    assert "the gateway cannot take calls for this agent. spec.dispatch.roomNamePattern is '^desk$', and" in message


async def test_deleted_deployment_returns_when_the_pattern_is_corrected(world: World) -> None:
    await world.become_ready()
    world.put_agent(dispatch=BAD_PATTERN)
    await world.reconcile()
    world.server.remove(DEPLOYMENT, "shop", "ava-worker")
    world.server.remove(POD, "shop", "pod-1")
    assert await world.reconcile() == NOT_READY_SECONDS
    assert world.condition(ConditionType.WORKERS_REGISTERED) == (
        "False",
        "RolloutBlocked",
        f"No worker starts until the manifest is corrected. {world.condition(ConditionType.READY)[2]}",
    )
    agent = world.agents.get(KEY)
    assert agent is not None
    assert agent.status["workers"]["registered"] == 0
    assert world.server.names(DEPLOYMENT) == set()
    world.put_agent()
    await world.reconcile()
    assert world.replicas == 1


async def test_agent_with_a_bad_pattern_keeps_its_name(world: World) -> None:
    await world.become_ready()
    world.put_agent(dispatch=BAD_PATTERN)
    world.put_agent("eve", day=3, agentName="ava")
    await world.reconcile()
    await world.reconciler.reconcile(OTHER)
    assert world.condition(ConditionType.NAME_UNIQUE)[0] == "True"
    younger = world.agents.get(OTHER)
    assert younger is not None
    reasons = {one["type"]: one["reason"] for one in younger.status["conditions"]}
    assert reasons["NameUnique"] == "NameTaken"
    assert world.server.names(DEPLOYMENT) == {"ava-worker"}


async def test_suspended_agent_is_settled(world: World) -> None:
    world.put_agent(suspend=True)
    await world.reconcile()
    assert await world.reconcile() == READY_SECONDS
    assert world.condition(ConditionType.READY)[:2] == ("False", "Suspended")
    assert world.condition(ConditionType.PROGRESSING)[:2] == ("False", "Suspended")


async def test_avatar_seats_are_reported(world: World) -> None:
    world.put_secret("tavus", apiKey="face")
    world.put_agent(avatar={**TAVUS, "maxSessions": 1})
    await world.become_ready()
    assert world.condition(ConditionType.AVATAR_AVAILABLE)[:2] == ("True", "AvatarSeatsFree")
    world.report_status("pod-1", status(calls=1, avatars=1))
    await world.reconcile()
    assert world.condition(ConditionType.AVATAR_AVAILABLE)[:2] == ("False", "AvatarSeatsTaken")
    assert world.condition(ConditionType.READY)[0] == "True", "calls continue by voice"


def outcomes(at: float, **failure: Any) -> StageReports:
    """All stages worked a second ago; with `failure` tts has failed since."""
    works = StageReport(succeeded_at=at - 1.0)
    failed = StageReport(succeeded_at=at - 1.0, failure=StageFailure(at=at, **failure), failures=1)
    return StageReports(stt=works, llm=works, tts=failed if failure else works)


async def test_failing_provider_is_reported_until_a_request_succeeds(world: World) -> None:
    await world.become_ready()
    assert world.condition(ConditionType.PROVIDERS_HEALTHY)[:2] == ("Unknown", "ProvidersPending")
    world.report_status("pod-1", status(stages=outcomes(5.0, status=400, parameter="voice")))
    await world.reconcile()
    state, reason, message = world.condition(ConditionType.PROVIDERS_HEALTHY)
    assert (state, reason) == ("False", "RequestRejected")
    assert "spec.voice.tts.voice ('onyx')" in message
    state, _, message = world.condition(ConditionType.READY)
    assert state == "True" and "see ProvidersHealthy" in message
    world.report_status("pod-1", status(stages=outcomes(9.0)))
    await world.reconcile()
    await asyncio.sleep(NUMBERS_SECONDS)
    await world.reconcile()
    assert world.condition(ConditionType.PROVIDERS_HEALTHY)[:2] == ("True", "ProvidersSucceeded")
    assert "ProvidersHealthy" not in world.condition(ConditionType.READY)[2]
    reasons = [event["reason"] for event in world.server.written(EVENT)]
    assert reasons.count("RequestRejected") == reasons.count("ProvidersSucceeded") == 1


async def test_worker_from_before_the_fix_does_not_keep_the_condition_false(world: World) -> None:
    await world.become_ready()
    world.report_status("pod-1", status(stages=outcomes(5.0, status=400, parameter="voice")))
    await world.reconcile()
    assert world.condition(ConditionType.PROVIDERS_HEALTHY)[0] == "False"
    world.put_agent(voice={**SPEC["voice"], "tts": {"voice": "nova"}})
    await world.roll_out()
    assert world.condition(ConditionType.PROVIDERS_HEALTHY)[:2] == ("Unknown", "ProvidersPending")
    world.report_status("pod-1", status(calls=1, stages=outcomes(9.0, status=400, parameter="voice")))
    await world.reconcile()
    assert world.condition(ConditionType.PROVIDERS_HEALTHY)[0] == "Unknown"
    world.put_pod("pod-2")
    await world.reconcile()
    world.report_status("pod-2", status(stages=outcomes(7.0)))
    await world.reconcile()
    assert world.condition(ConditionType.PROVIDERS_HEALTHY)[0] == "True"


def agent_metrics(world: World) -> set[str]:
    """The metrics that have a sample for the agent."""
    samples = [sample for family in world.metrics.registry.collect() for sample in family.samples]
    return {sample.name for sample in samples if sample.labels.get("agent") == "ava"}


async def test_deleted_agent_is_forgotten_and_nothing_is_written(world: World) -> None:
    await world.become_ready()
    assert agent_metrics(world)
    world.remove_agent()
    world.server.remove(POD, "shop", "pod-1")
    written, reads = len(world.server.writes), world.server.requests["get", "Secret"]
    assert await world.reconcile() is None
    assert await world.reconcile() is None, "a second reconcile changes nothing"
    await asyncio.sleep(120)
    assert len(world.server.writes) == written
    assert world.server.requests["get", "Secret"] == reads, "its Secrets are not read any more"
    assert world.fleet.agents == {}
    assert agent_metrics(world) == set()


async def test_deleted_agent_is_forgotten_although_scaling_fails(world: World) -> None:
    await world.become_ready()
    deleted = world.server.find(AVATAR_AGENT, "shop", "ava")
    assert deleted is not None
    deleted["metadata"]["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    world.agents.update(world.server.put(AVATAR_AGENT, deleted))
    world.server.failures["merge", "Deployment"] = UNREACHABLE
    with pytest.raises(ApiError):
        await world.reconcile()
    assert agent_metrics(world) == set()
    world.server.failures.clear()
    await world.reconcile()
    assert world.replicas == 0


async def test_each_reconcile_reads_the_clock_once(world: World) -> None:
    await world.become_ready()
    states: list[Callable[[], object]] = [
        lambda: None,
        lambda: world.put_agent(language="ar"),
        lambda: world.put_agent(fieldOfANewerRelease=1),
        world.remove_agent,
        lambda: world.server.remove(POD, "shop", "pod-1"),
    ]
    for change in states:
        change()
        world.clock_reads = 0
        await world.reconcile()
        assert world.clock_reads == 1


async def test_status_is_kept_while_a_new_leader_probes_credentials(world: World) -> None:
    await world.become_ready()
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
    assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "Unknown", (
        "the status does not describe the new generation yet"
    )


async def test_manifest_of_a_newer_release_keeps_workers_running(world: World) -> None:
    await world.become_ready()
    before = world.agents.get(KEY)
    assert before is not None
    world.put_agent(fieldOfANewerRelease=1)
    await world.reconcile()
    assert world.condition(ConditionType.READY)[:2] == ("False", "InvalidSpec")
    after = world.agents.get(KEY)
    assert after is not None
    fields = ("selector", "agentName", "workers")
    assert [after.status[field] for field in fields] == [before.status[field] for field in fields]
    labels = {"agent_namespace": "shop", "agent": "ava"}
    assert world.metrics.registry.get_sample_value("avatar_agent_controller_ready", labels) == 0
    world.set_pending_calls(40)
    await world.reconcile()
    assert world.replicas > 1, "waiting calls still start workers"


async def test_namesake_of_a_deleted_agent_is_another_agent(world: World) -> None:
    await world.roll_out()
    before = world.template["metadata"]["annotations"][CREDENTIALS]
    world.remove_agent()
    await world.reconcile()
    world.server.remove(DEPLOYMENT, "shop", "ava-worker")
    world.server.remove(POD_DISRUPTION_BUDGET, "shop", "ava-worker")
    world.put_agent(uid="uid-other")
    await world.roll_out()
    assert world.template["metadata"]["annotations"][CREDENTIALS] != before, (
        "fingerprints of two agents cannot be compared"
    )
    assert world.workers["metadata"]["ownerReferences"][0]["uid"] == "uid-other"
