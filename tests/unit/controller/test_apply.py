"""What a reconcile does to an agent's children: rollouts, scaling, restored edits, and objects of other owners."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentspec import ConditionType
from controller.apply import PATIENCE_SECONDS
from controller.desired.identity import Owner, metadata
from controller.observation import ProviderVerdict
from controller.policy.decide import NOT_READY_SECONDS
from controller.policy.podannotations import DELETION_COST, PROTECTION
from controller.policy.rollout import MAX_WAIT_SECONDS, QUIET_SECONDS
from kube.client import ApiError, Document
from kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    SECRET,
    Kind,
)
from tests.unit.controller.builders import KEY, status
from tests.unit.controller.world import UID, WORKERS, World
from tests.unit.fakes.apiserver import UNREACHABLE

Change = Callable[[World], None]
EAGER: dict[str, Any] = {
    "scaling": {"minWorkers": 0, "freeSlots": 0, "scaleDownDelaySeconds": 0},
    "worker": {"callsPerWorker": 1},
}
"""One worker for each call, and no free slots."""


def templates(world: World) -> list[Document]:
    """All pod templates that were applied, in their order."""
    applied = [
        document["spec"]["template"] for document in world.server.written(DEPLOYMENT) if "template" in document["spec"]
    ]
    return [template for template, before in zip(applied, [None, *applied], strict=False) if template != before]


async def test_new_agent_starts_at_once_with_all_its_children(world: World) -> None:
    await world.reconcile()
    assert world.replicas == 1
    assert world.server.names(POD_DISRUPTION_BUDGET) == {WORKERS}
    (volume,) = [one for one in world.template["spec"]["volumes"] if "configMap" in one]
    assert {volume["configMap"]["name"]} == world.configurations
    made = [kind for verb, kind, _ in world.server.writes if verb == "apply"]
    assert made.index("ConfigMap") < made.index("Deployment"), "no pod starts before its configuration exists"
    assert made.index("ServiceAccount") < made.index("Deployment"), "nor before its ServiceAccount exists"


async def test_matching_children_are_not_written_again(world: World) -> None:
    await world.roll_out()
    version, written = world.server.version, len(world.server.writes)
    for _ in range(5):
        await world.reconcile()
    assert (world.server.version, len(world.server.writes)) == (version, written)


async def test_burst_of_changes_makes_one_rollout(world: World) -> None:
    await world.reconcile()
    assert len(templates(world)) == 1
    for language in ("ar", "de", "fr"):
        world.put_agent(language=language)
        requeue_after = (await world.reconciler.reconcile(KEY)).requeue_after
        assert requeue_after is not None
        assert requeue_after <= QUIET_SECONDS
        await asyncio.sleep(QUIET_SECONDS - 0.5)
        assert len(templates(world)) == 1
    await asyncio.sleep(0.5)
    await world.reconcile()
    assert len(templates(world)) == 2
    assert len(world.configurations) == 1, "configurations that were not rolled out were never created"
    assert len(world.server.written(CONFIG_MAP)) == 3, "two created, one deleted"


async def test_endless_changes_are_rolled_out_after_the_maximum_wait(world: World) -> None:
    await world.reconcile()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(100):
        if len(templates(world)) > 1:
            break
        world.put_agent(worker={"image": f"worker:{number}"})
        await world.reconciler.reconcile(KEY)
        await asyncio.sleep(0.5)
    assert MAX_WAIT_SECONDS <= loop.time() - began <= MAX_WAIT_SECONDS + 2


async def test_reverted_change_causes_no_rollout(world: World) -> None:
    await world.reconcile()
    for language in ("ar", "en"):
        world.put_agent(language=language)
        await world.reconciler.reconcile(KEY)
    await world.roll_out()
    assert templates(world) == [world.template]
    world.put_agent(language="ar")
    assert (await world.reconciler.reconcile(KEY)).requeue_after == pytest.approx(QUIET_SECONDS, abs=0.1), (
        "a new change starts a new wait"
    )


async def test_unblocked_change_waits_to_settle_again(world: World) -> None:
    await world.roll_out()
    world.put_agent(language="ar")
    await world.reconciler.reconcile(KEY)
    world.server.remove(SECRET, "shop", "openai")
    world.references.forget(KEY)  # the next reconcile reads the Secrets again
    await world.roll_out()
    world.put_secret("openai", apiKey="first")
    world.references.forget(KEY)
    assert (await world.reconciler.reconcile(KEY)).requeue_after == pytest.approx(QUIET_SECONDS, abs=0.1)
    assert len(templates(world)) == 1


async def test_workers_scale_while_a_change_settles(world: World) -> None:
    world.put_agent(**EAGER)
    world.set_pending_calls(1)
    await world.reconcile()
    assert world.replicas == 1
    world.put_agent(**EAGER, language="ar")
    await world.reconciler.reconcile(KEY)
    world.set_pending_calls(3)
    await world.reconciler.reconcile(KEY)
    assert (world.replicas, len(templates(world))) == (3, 1)
    await world.roll_out()
    assert (world.replicas, len(templates(world))) == (3, 2), "the pending change is applied afterwards"


def _suspend(world: World) -> None:
    world.put_agent(suspend=True, language="ar")


def _take_the_name(world: World) -> None:
    world.put_agent("eva", day=1, agentName="ava")
    world.put_agent(language="ar")


def _resume(world: World) -> None:
    world.put_agent(language="ar")


def _release_the_name(world: World) -> None:
    world.put_agent("eva", day=1, agentName="eva")


@pytest.mark.parametrize(
    ("stop", "start", "kind", "reason"),
    [
        pytest.param(_suspend, _resume, ConditionType.READY, "Suspended", id="suspended"),
        pytest.param(_take_the_name, _release_the_name, ConditionType.NAME_UNIQUE, "NameTaken", id="name-taken"),
    ],
)
async def test_stopped_agent_scales_to_zero_and_keeps_its_template(
    world: World, stop: Change, start: Change, kind: ConditionType, reason: str
) -> None:
    await world.roll_out()
    before = world.template
    stop(world)
    await world.roll_out()
    assert (world.replicas, world.template) == (0, before)
    assert world.condition(kind)[:2] == ("False", reason)
    start(world)
    await world.roll_out()
    assert world.replicas == 1
    assert world.template != before, "the change made meanwhile is rolled out"


@pytest.mark.parametrize("stop", [_suspend, _take_the_name], ids=["suspended", "name-taken"])
async def test_agent_stopped_from_the_start_gets_no_children(world: World, stop: Change) -> None:
    stop(world)
    await world.roll_out()
    assert (world.server.names(DEPLOYMENT), world.configurations) == (set(), set())
    assert world.server.requests["get", "Deployment"] == 0, "without a Deployment to change no name is checked"


async def test_unusable_inputs_block_the_rollout_but_not_scaling(world: World) -> None:
    world.put_agent(**EAGER)
    world.set_pending_calls(1)
    await world.roll_out()
    before, configurations = world.template, world.configurations
    world.server.remove(SECRET, "shop", "openai")
    world.put_agent(**EAGER, language="ar")
    world.set_pending_calls(2)
    await world.roll_out()
    assert world.condition(ConditionType.CREDENTIALS_VALID)[:2] == ("False", "SecretNotFound")
    assert world.condition(ConditionType.PROGRESSING)[:2] == ("False", "RolloutBlocked")
    assert (world.replicas, world.template) == (2, before)
    assert world.configurations == configurations
    world.put_secret("openai", apiKey="first")
    await world.roll_out()
    assert world.template != before


async def test_no_worker_starts_from_an_outdated_template(world: World) -> None:
    """An agent lost its name and gets another: old workers would take the calls of the agent that holds the name."""
    await world.roll_out()
    world.put_agent("eva", day=1, agentName="ava")
    await world.roll_out()
    assert world.replicas == 0
    world.server.remove(SECRET, "shop", "openai")
    world.put_agent(agentName="another")
    for _ in range(20):
        await world.reconcile()
    assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "False"
    assert world.replicas == 0
    world.put_secret("openai", apiKey="first")
    await world.roll_out()
    started = [one["spec"] for one in world.server.written(DEPLOYMENT) if one["spec"]["replicas"]]
    assert [one["template"] for one in started] == [templates(world)[0], world.template]
    assert len(templates(world)) == 2


async def test_resumed_agent_starts_the_current_manifest_at_once(world: World) -> None:
    await world.roll_out()
    world.put_agent(suspend=True)
    await world.roll_out()
    before = world.template
    world.put_agent(language="ar")
    await world.reconciler.reconcile(KEY)
    assert world.replicas == 1
    assert world.template != before, "without running workers there is nothing to wait for"


REJECTED = ApiError(403, "Forbidden", "PATCH", "not allowed here")


@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy"])
async def test_running_workers_scale_while_their_change_is_rejected(world: World, kind: str) -> None:
    world.put_agent(**EAGER)
    world.set_pending_calls(1)
    await world.roll_out()
    world.put_agent(**{**EAGER, "worker": {"callsPerWorker": 1, "image": "forbidden:1"}})
    world.server.failures["apply", kind] = REJECTED
    world.server.remove(NETWORK_POLICY, "shop", "avatar-agent-worker")
    await world.roll_out()
    assert world.condition(ConditionType.READY)[1] == "ApplyRejected"
    world.set_pending_calls(4)
    await world.reconcile()
    assert world.replicas == 4
    assert world.template["spec"]["containers"][0]["image"] == "worker:1"


async def test_lasting_api_failure_is_reported(world: World) -> None:
    await world.roll_out()
    world.put_agent(worker={"image": "worker:2"})
    world.server.failures["apply", "Deployment"] = ApiError(500, "InternalError", "PATCH", "failed calling webhook")
    failures = 0
    for _ in range(int(PATIENCE_SECONDS) + 10):
        try:
            await world.reconcile()
        except ApiError:
            failures += 1
        if failures == 1:
            assert world.condition(ConditionType.READY)[1] != "ApplyFailed", "one failure is not reported"
    assert failures > PATIENCE_SECONDS, "every attempt is made"
    status, reason, message = world.condition(ConditionType.READY)
    assert (status, reason) == ("False", "ApplyFailed")
    assert "failed calling webhook" in message
    world.server.failures.clear()
    await world.roll_out()
    assert world.condition(ConditionType.READY)[1] != "ApplyFailed"


async def test_long_rejection_is_shortened(world: World) -> None:
    world.server.failures["apply", "Deployment"] = ApiError(403, "Forbidden", "PATCH", "x" * 40_000)
    await world.reconcile()
    assert len(world.condition(ConditionType.READY)[2]) < 2_000


@pytest.mark.parametrize("blocked_by", ["inputs", "suspended"])
async def test_children_are_restored_while_rollouts_are_blocked(world: World, blocked_by: str) -> None:
    await world.roll_out()
    configurations = world.configurations
    if blocked_by == "inputs":
        world.providers.verdict = ProviderVerdict.UNREACHABLE
    else:
        world.put_agent(suspend=True)
    await world.roll_out()
    replicas = world.replicas
    world.server.remove(POD_DISRUPTION_BUDGET, "shop", WORKERS)
    world.server.remove(NETWORK_POLICY, "shop", "avatar-agent-worker")
    world.server.remove(CONFIG_MAP, "shop", *configurations)
    edited = world.workers
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    world.server.put(DEPLOYMENT, edited)
    await world.reconcile()
    assert world.server.names(POD_DISRUPTION_BUDGET) == {WORKERS}
    assert world.server.names(NETWORK_POLICY) == {"avatar-agent-worker"}
    assert world.configurations == configurations
    assert world.template["spec"]["containers"][0]["image"] == "worker:1"
    assert world.replicas == replicas


async def test_deployment_without_its_label_is_still_found(world: World) -> None:
    world.put_agent(scaling={"minWorkers": 1, "scaleDownDelaySeconds": 600})
    world.set_pending_calls(20)
    await world.roll_out()
    before = world.replicas
    assert before > 1
    world.put_pod("pod-1", status(agent_name="ava"))
    world.set_pending_calls(0)
    edited = world.workers
    edited["metadata"]["labels"] = {}
    world.server.put(DEPLOYMENT, edited)
    await world.reconcile()
    assert world.replicas == before, "the scale-down delay holds"
    assert world.workers["metadata"]["labels"], "the label is restored"


async def test_orphaned_children_are_adopted(world: World) -> None:
    """As after kubectl delete --cascade=orphan and a new kubectl apply: running workers stay."""
    await world.roll_out()
    for kind in (DEPLOYMENT, POD_DISRUPTION_BUDGET):
        orphan = world.server.find(kind, "shop", WORKERS)
        assert orphan is not None
        orphan["metadata"]["ownerReferences"] = []
        world.server.put(kind, orphan)
    world.remove_agent()
    await world.reconcile()
    world.put_agent(uid="uid-2")
    await world.roll_out()
    assert world.workers["metadata"]["ownerReferences"][0]["uid"] == "uid-2"
    assert world.condition(ConditionType.READY)[1] == "WorkersStarting"


async def test_agent_without_usable_inputs_gets_no_children(world: World) -> None:
    world.server.remove(SECRET, "shop", "livekit")
    assert await world.reconcile() == NOT_READY_SECONDS
    assert (world.server.names(DEPLOYMENT), world.configurations) == (set(), set())


def reference(kind: str = "AvatarAgent", name: str = "ava", uid: str = UID) -> Document:
    return {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}


def foreign(kind: str, *owners: Document, **labels: str) -> Document:
    spec = {"replicas": 7, "template": {"metadata": {}, "spec": {}}} if kind == "Deployment" else {}
    known = {"namespace": "shop", "name": WORKERS, "ownerReferences": list(owners), "labels": labels}
    return {"metadata": known, "spec": spec}


@pytest.mark.parametrize("kind", [DEPLOYMENT, POD_DISRUPTION_BUDGET], ids=lambda kind: kind.kind)
@pytest.mark.parametrize(
    "labels", [{}, metadata(Owner("shop", "ava", UID), WORKERS)["labels"]], ids=["unlabelled", "labelled"]
)
@pytest.mark.parametrize(
    ("owners", "message_part"),
    [
        pytest.param((), "or rename the AvatarAgent", id="no-owner"),
        pytest.param((reference("Application", "shop", "uid-9"),), "or rename the AvatarAgent", id="other-operator"),
        pytest.param((reference(uid="uid-0"),), "until Kubernetes has removed it", id="deleted-namesake"),
    ],
)
@pytest.mark.parametrize("inputs_usable", [True, False], ids=["usable-inputs", "unusable-inputs"])
async def test_objects_of_other_owners_are_reported_and_left_unchanged(
    world: World,
    kind: Kind,
    labels: dict[str, str],
    owners: tuple[Document, ...],
    message_part: str,
    inputs_usable: bool,
) -> None:
    world.server.put(kind, foreign(kind.kind, *owners, **labels))
    if not inputs_usable:
        world.server.remove(SECRET, "shop", "openai")
    before = world.server.find(kind, "shop", WORKERS)
    requeue_after = await world.reconcile()
    assert requeue_after is not None
    assert requeue_after <= NOT_READY_SECONDS
    assert world.server.find(kind, "shop", WORKERS) == before
    assert {written for _, written, _ in world.server.writes} == {"AvatarAgent", "Event"}
    ready, reason, message = world.condition(ConditionType.READY)
    if inputs_usable:  # otherwise nothing is applied, so there is no conflict
        assert (ready, reason) == ("False", "NameConflict")
        assert f"{kind.kind} {WORKERS!r} exists" in message
        assert message_part in message
    world.server.remove(kind, "shop", WORKERS)
    world.put_secret("openai", apiKey="first")
    await world.roll_out()
    assert world.replicas == 1, "the agent starts when the object is gone"


async def test_children_with_a_second_owner_are_still_applied(world: World) -> None:
    other = reference("Application", "shop", "uid-9")
    labels = metadata(Owner("shop", "ava", UID), WORKERS)["labels"]
    for kind in (DEPLOYMENT, POD_DISRUPTION_BUDGET):
        world.server.put(kind, foreign(kind.kind, other, reference(), **labels))
    await world.roll_out()
    assert len(templates(world)) == 1
    assert len(world.server.written(POD_DISRUPTION_BUDGET)) == 1


@pytest.mark.parametrize("status_code", [400, 403, 422])
async def test_rejection_is_reported_and_retried(world: World, status_code: int) -> None:
    refusal = ApiError(status_code, "Forbidden", "PATCH", "exceeded quota: workers")
    world.server.failures["apply", "Deployment"] = refusal
    assert await world.reconcile() == NOT_READY_SECONDS
    ready, reason, message = world.condition(ConditionType.READY)
    assert (ready, reason) == ("False", "ApplyRejected")
    assert "exceeded quota: workers" in message
    world.server.failures.clear()
    await world.reconcile()
    assert world.replicas == 1


@pytest.mark.parametrize("error", [UNREACHABLE, ApiError(409, "Conflict", "PATCH", ""), ApiError(500, "", "PATCH", "")])
async def test_transient_error_fails_the_reconcile(world: World, error: ApiError) -> None:
    world.server.failures["apply", "Deployment"] = error
    with pytest.raises(ApiError):
        await world.reconcile()
    world.server.failures.clear()
    await world.reconcile()
    assert world.replicas == 1


def replica_set(name: str, config_map: str, replicas: int) -> Document:
    spec = {"volumes": [{"name": "config", "configMap": {"name": config_map}}]}
    return {
        "metadata": metadata(Owner("shop", "ava", UID), name),
        "spec": {"replicas": replicas, "template": {"spec": spec}},
        "status": {"replicas": replicas},
    }


async def test_configurations_are_deleted_once_no_worker_can_use_them(world: World) -> None:
    await world.reconcile()
    (first,) = world.configurations
    world.put_pod("old")
    world.server.put(REPLICA_SET, replica_set("rs-1", first, 1))
    world.put_agent(language="ar")
    await world.roll_out()
    assert len(world.configurations) == 2, "an old worker still runs with the first"
    world.server.remove(POD, "shop", "old")
    await world.reconcile()
    assert first in world.configurations, "the ReplicaSet may start another pod with it"
    world.server.put(REPLICA_SET, replica_set("rs-1", first, 0))
    await world.reconcile()
    assert len(world.configurations) == 1
    assert first not in world.configurations
    lists = world.server.requests["list", "ReplicaSet"]
    await world.reconcile()
    assert world.server.requests["list", "ReplicaSet"] == lists, "without unused configurations nothing is listed"


async def test_failed_cleanup_does_not_undo_the_rollout(world: World) -> None:
    await world.roll_out()
    world.put_agent(language="ar")
    world.server.failures["list", "ReplicaSet"] = ApiError(500, "InternalError", "GET", "not now")
    with pytest.raises(ApiError):
        await world.roll_out()
    rolled_out = world.template
    assert len(templates(world)) == 2
    world.server.remove(SECRET, "shop", "openai")
    world.references.forget(KEY)  # the next reconcile reads the Secrets again
    await world.reconcile()
    assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "False"
    assert world.template == rolled_out


async def test_configurations_of_other_agents_are_kept(world: World) -> None:
    world.server.put(CONFIG_MAP, {"metadata": metadata(Owner("shop", "eva", "uid-eva"), "eva-worker-1")})
    world.server.put(CONFIG_MAP, {"metadata": {"namespace": "shop", "name": "ava-worker-unmanaged"}})
    await world.roll_out()
    assert {"eva-worker-1", "ava-worker-unmanaged"} <= world.configurations


async def test_deletion_costs_are_set_before_scaling_down(world: World) -> None:
    world.put_agent(**EAGER)
    world.set_pending_calls(2)
    await world.reconcile()
    assert world.replicas == 2
    world.put_pod("busy", status(calls=1))
    world.put_pod("idle", status(calls=0))
    world.set_pending_calls(0)
    await world.reconcile()
    assert world.replicas == 1
    written = [(verb, kind) for verb, kind, _ in world.server.writes]
    assert written.index(("merge", "Pod")) < max(
        number for number, (_, kind) in enumerate(written) if kind == "Deployment"
    )
    (change,) = world.server.written(POD)
    assert change == {"metadata": {"annotations": {**PROTECTION, DELETION_COST: "1"}}}
    await world.reconcile()
    assert len(world.server.written(POD)) == 1, "nothing is written twice"


async def test_edited_number_of_replicas_is_restored(world: World) -> None:
    await world.roll_out()
    edited = world.workers
    edited["spec"]["replicas"] = 9
    world.server.put(DEPLOYMENT, edited)
    await world.reconcile()
    assert KEY in world.changed
    assert world.replicas == 1


async def test_edited_image_is_restored(world: World) -> None:
    await world.roll_out()
    edited = world.workers
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "mine:9"
    world.server.put(DEPLOYMENT, edited)
    await world.reconcile()
    assert world.template["spec"]["containers"][0]["image"] == "worker:1"


async def test_manifest_sets_the_worker_image(world: World) -> None:
    world.put_agent(worker={"image": "mine:2"})
    await world.reconcile()
    assert world.template["spec"]["containers"][0]["image"] == "mine:2"
