"""What becomes of an agent's children: when they are rolled out, what only follows, and what is never touched."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentspec import ConditionType, Demand
from controller.apply import PATIENCE_SECONDS
from controller.desired.identity import Owner, metadata
from controller.observation import ProviderVerdict
from controller.policy.decide import NOT_READY_SECONDS
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
from tests.unit.controller.builders import status
from tests.unit.controller.world import KEY, UID, WORKERS, World, played
from tests.unit.fakes.apiserver import UNREACHABLE

Change = Callable[[World], None]
EAGER: dict[str, Any] = {
    "scaling": {"minWorkers": 0, "freeSlots": 0, "scaleDownDelaySeconds": 0},
    "worker": {"callsPerWorker": 1},
}
"""Exactly as many workers as calls."""


def wait_for_calls(world: World, number: int) -> None:
    """So many calls wait at a gateway."""
    world.fleet.record_demand(Demand(gateway="gateway-0", pending={str(KEY): number}), 0.0)


def templates(world: World) -> list[Document]:
    """Every pod template that was applied, in turn."""
    applied = [
        document["spec"]["template"] for document in world.server.written(DEPLOYMENT) if "template" in document["spec"]
    ]
    return [template for template, before in zip(applied, [None, *applied], strict=False) if template != before]


def test_a_new_agent_is_started_at_once_with_all_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.reconcile()
        assert world.replicas == 1
        assert world.server.names(POD_DISRUPTION_BUDGET) == {WORKERS}
        (volume,) = [one for one in world.workers["spec"]["template"]["spec"]["volumes"] if "configMap" in one]
        assert {volume["configMap"]["name"]} == world.configurations
        made = [kind for verb, kind, _ in world.server.writes if verb == "apply"]
        assert made.index("ConfigMap") < made.index("Deployment"), "no pod is started without its configuration"
        assert made.index("ServiceAccount") < made.index("Deployment"), "or without whom it runs as"

    played(monkeypatch, scenario)


def test_what_is_as_it_should_be_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        version, written = world.server.version, len(world.server.writes)
        for _ in range(5):
            await world.reconcile()
        assert (world.server.version, len(world.server.writes)) == (version, written)

    played(monkeypatch, scenario)


def test_changes_in_a_burst_make_one_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.reconcile()
        assert len(templates(world)) == 1
        for language in ("ar", "de", "fr"):
            world.put_agent(language=language)
            again_in = await world.reconciler.reconcile(KEY)
            assert again_in is not None
            assert again_in <= QUIET_SECONDS
            await asyncio.sleep(QUIET_SECONDS - 0.5)
            assert len(templates(world)) == 1
        await asyncio.sleep(0.5)
        await world.reconcile()
        assert len(templates(world)) == 2
        assert len(world.configurations) == 1, "and what was not rolled out was never made"
        assert len(world.server.written(CONFIG_MAP)) == 3, "made twice, removed once"

    played(monkeypatch, scenario)


def test_changes_without_an_end_are_rolled_out_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
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

    played(monkeypatch, scenario)


def test_a_change_that_is_taken_back_rolls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.reconcile()
        for language in ("ar", "en"):
            world.put_agent(language=language)
            await world.reconciler.reconcile(KEY)
        await world.rolled_out()
        assert templates(world) == [world.workers["spec"]["template"]]
        world.put_agent(language="ar")
        assert await world.reconciler.reconcile(KEY) == pytest.approx(QUIET_SECONDS, abs=0.1), "and it waits anew"

    played(monkeypatch, scenario)


def test_a_change_that_was_held_back_waits_anew_when_it_may_be_rolled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        world.put_agent(language="ar")
        await world.reconciler.reconcile(KEY)
        world.server.remove(SECRET, "shop", "openai")
        world.references.forget(KEY)  # so that it is noticed at once
        await world.rolled_out()
        world.put_secret("openai", apiKey="first")
        world.references.forget(KEY)
        assert await world.reconciler.reconcile(KEY) == pytest.approx(QUIET_SECONDS, abs=0.1)
        assert len(templates(world)) == 1

    played(monkeypatch, scenario)


def test_while_a_change_waits_the_number_follows_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(**EAGER)
        wait_for_calls(world, 1)
        await world.reconcile()
        assert world.replicas == 1
        world.put_agent(**EAGER, language="ar")
        await world.reconciler.reconcile(KEY)
        wait_for_calls(world, 3)
        await world.reconciler.reconcile(KEY)
        assert (world.replicas, len(templates(world))) == (3, 1)
        await world.rolled_out()
        assert (world.replicas, len(templates(world))) == (3, 2), "the change was not forgotten over it"

    played(monkeypatch, scenario)


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
        pytest.param(_take_the_name, _release_the_name, ConditionType.NAME_UNIQUE, "NameTaken", id="name taken"),
    ],
)
def test_a_stopped_agent_has_no_workers_and_those_that_leave_keep_their_template(
    monkeypatch: pytest.MonkeyPatch, stop: Change, start: Change, kind: ConditionType, reason: str
) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        before = world.workers["spec"]["template"]
        stop(world)
        await world.rolled_out()
        assert (world.replicas, world.workers["spec"]["template"]) == (0, before)
        assert world.condition(kind)[:2] == ("False", reason)
        start(world)
        await world.rolled_out()
        assert world.replicas == 1
        assert world.workers["spec"]["template"] != before, "what was changed meanwhile is rolled out now"

    played(monkeypatch, scenario)


@pytest.mark.parametrize("stop", [_suspend, _take_the_name])
def test_an_agent_that_is_stopped_from_the_start_gets_nothing(monkeypatch: pytest.MonkeyPatch, stop: Change) -> None:
    async def scenario(world: World) -> None:
        stop(world)
        await world.rolled_out()
        assert (world.server.names(DEPLOYMENT), world.configurations) == (set(), set())

    played(monkeypatch, scenario)


def test_inputs_that_cannot_be_used_hold_the_template_back_and_the_number_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(**EAGER)
        wait_for_calls(world, 1)
        await world.rolled_out()
        before, configurations = world.workers["spec"]["template"], world.configurations
        world.server.remove(SECRET, "shop", "openai")
        world.put_agent(**EAGER, language="ar")
        wait_for_calls(world, 2)
        await world.rolled_out()
        assert world.condition(ConditionType.CREDENTIALS_VALID)[:2] == ("False", "SecretNotFound")
        assert world.condition(ConditionType.PROGRESSING)[:2] == ("False", "RolloutBlocked")
        assert (world.replicas, world.workers["spec"]["template"]) == (2, before)
        assert world.configurations == configurations
        world.put_secret("openai", apiKey="first")
        await world.rolled_out()
        assert world.workers["spec"]["template"] != before

    played(monkeypatch, scenario)


def test_what_is_not_wanted_any_more_is_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lost its name and is to have another: workers of the former manifest would take the other agent's calls."""

    async def scenario(world: World) -> None:
        await world.rolled_out()
        world.put_agent("eva", day=1, agentName="ava")
        await world.rolled_out()
        assert world.replicas == 0
        world.server.remove(SECRET, "shop", "openai")
        world.put_agent(agentName="another")
        for _ in range(20):
            await world.reconcile()
        assert world.condition(ConditionType.CREDENTIALS_VALID)[0] == "False"
        assert world.replicas == 0
        world.put_secret("openai", apiKey="first")
        await world.rolled_out()
        started = [one["spec"] for one in world.server.written(DEPLOYMENT) if one["spec"]["replicas"]]
        assert [one["template"] for one in started] == [templates(world)[0], world.workers["spec"]["template"]]
        assert len(templates(world)) == 2

    played(monkeypatch, scenario)


def test_after_a_pause_the_present_manifest_is_started_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        world.put_agent(suspend=True)
        await world.rolled_out()
        before = world.workers["spec"]["template"]
        world.put_agent(language="ar")
        await world.reconciler.reconcile(KEY)
        assert world.replicas == 1
        assert world.workers["spec"]["template"] != before, "nothing runs that could be rolled out"

    played(monkeypatch, scenario)


REFUSED = ApiError(403, "Forbidden", "PATCH", "not allowed here")


@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy"])
def test_what_works_is_scaled_although_its_change_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(**EAGER)
        wait_for_calls(world, 1)
        await world.rolled_out()
        world.put_agent(**{**EAGER, "worker": {"callsPerWorker": 1, "image": "forbidden:1"}})
        world.server.failures["apply", kind] = REFUSED
        world.server.remove(NETWORK_POLICY, "shop", "avatar-agent-worker")
        await world.rolled_out()
        assert world.condition(ConditionType.READY)[1] == "ApplyRejected"
        wait_for_calls(world, 4)
        await world.reconcile()
        assert world.replicas == 4
        assert world.workers["spec"]["template"]["spec"]["containers"][0]["image"] == "worker:1"

    played(monkeypatch, scenario)


def test_what_fails_for_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        world.put_agent(worker={"image": "worker:2"})
        world.server.failures["apply", "Deployment"] = ApiError(500, "InternalError", "PATCH", "failed calling webhook")
        failures = 0
        for _ in range(int(PATIENCE_SECONDS) + 10):
            try:
                await world.reconcile()
            except ApiError:
                failures += 1
            if failures == 1:
                assert world.condition(ConditionType.READY)[1] != "ApplyFailed", "once is nothing"
        assert failures > PATIENCE_SECONDS, "it is tried again"
        status, reason, message = world.condition(ConditionType.READY)
        assert (status, reason) == ("False", "ApplyFailed")
        assert "failed calling webhook" in message
        world.server.failures.clear()
        await world.rolled_out()
        assert world.condition(ConditionType.READY)[1] != "ApplyFailed"

    played(monkeypatch, scenario)


def test_a_long_refusal_is_told_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.server.failures["apply", "Deployment"] = ApiError(403, "Forbidden", "PATCH", "x" * 40_000)
        await world.reconcile()
        assert len(world.condition(ConditionType.READY)[2]) < 2_000

    played(monkeypatch, scenario)


@pytest.mark.parametrize("held", ["inputs", "suspended"])
def test_edited_and_deleted_children_come_back_while_changes_are_held_back(
    monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        configurations = world.configurations
        if held == "inputs":
            world.providers.verdict = ProviderVerdict.UNREACHABLE
        else:
            world.put_agent(suspend=True)
        await world.rolled_out()
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
        assert world.workers["spec"]["template"]["spec"]["containers"][0]["image"] == "worker:1"
        assert world.replicas == replicas

    played(monkeypatch, scenario)


def test_a_deployment_that_lost_its_label_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(scaling={"minWorkers": 1, "scaleDownDelaySeconds": 600})
        wait_for_calls(world, 20)
        await world.rolled_out()
        before = world.replicas
        assert before > 1
        world.put_pod("pod-1", status(agent_name="ava"))
        wait_for_calls(world, 0)
        edited = world.workers
        edited["metadata"]["labels"] = {}
        world.server.put(DEPLOYMENT, edited)
        await world.reconcile()
        assert world.replicas == before, "the delay holds"
        assert world.workers["metadata"]["labels"], "and the label is back"

    played(monkeypatch, scenario)


def test_an_orphan_of_the_same_name_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """kubectl delete --cascade=orphan, and the manifest applied anew: nothing that runs is touched."""

    async def scenario(world: World) -> None:
        await world.rolled_out()
        for kind in (DEPLOYMENT, POD_DISRUPTION_BUDGET):
            orphan = world.server.find(kind, "shop", WORKERS)
            assert orphan is not None
            orphan["metadata"]["ownerReferences"] = []
            world.server.put(kind, orphan)
        world.remove_agent()
        await world.reconcile()
        world.put_agent(uid="uid-2")
        await world.rolled_out()
        assert world.workers["metadata"]["ownerReferences"][0]["uid"] == "uid-2"
        assert world.condition(ConditionType.READY)[1] == "WorkersStarting"

    played(monkeypatch, scenario)


def test_an_agent_whose_inputs_were_never_usable_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.server.remove(SECRET, "shop", "livekit")
        assert await world.reconcile() == NOT_READY_SECONDS
        assert (world.server.names(DEPLOYMENT), world.configurations) == (set(), set())

    played(monkeypatch, scenario)


def reference(kind: str = "AvatarAgent", name: str = "ava", uid: str = UID) -> Document:
    return {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}


def their(kind: str, *owners: Document, **labels: str) -> Document:
    spec = {"replicas": 7, "template": {"metadata": {}, "spec": {}}} if kind == "Deployment" else {}
    known = {"namespace": "shop", "name": WORKERS, "ownerReferences": list(owners), "labels": labels}
    return {"metadata": known, "spec": spec}


@pytest.mark.parametrize("kind", [DEPLOYMENT, POD_DISRUPTION_BUDGET], ids=lambda kind: kind.kind)
@pytest.mark.parametrize("labels", [{}, metadata(Owner("shop", "ava", UID), WORKERS)["labels"]], ids=["", "labelled"])
@pytest.mark.parametrize(
    ("owners", "told"),
    [
        pytest.param((), "or rename the AvatarAgent", id="somebody made it by hand"),
        pytest.param(
            (reference("Application", "shop", "uid-9"),), "or rename the AvatarAgent", id="another operator made it"
        ),
        pytest.param(
            (reference(uid="uid-0"),), "until Kubernetes has removed it", id="the agent's predecessor left it"
        ),
    ],
)
@pytest.mark.parametrize("complete", [True, False], ids=["inputs are fine", "inputs are broken"])
def test_what_belongs_to_others_is_named_and_left_alone(
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    labels: dict[str, str],
    owners: tuple[Document, ...],
    told: str,
    complete: bool,
) -> None:
    async def scenario(world: World) -> None:
        world.server.put(kind, their(kind.kind, *owners, **labels))
        if not complete:
            world.server.remove(SECRET, "shop", "openai")
        before = world.server.find(kind, "shop", WORKERS)
        again_in = await world.reconcile()
        assert again_in is not None
        assert again_in <= NOT_READY_SECONDS
        assert world.server.find(kind, "shop", WORKERS) == before
        assert {written for _, written, _ in world.server.writes} == {"AvatarAgent", "Event"}
        ready, reason, message = world.condition(ConditionType.READY)
        if complete:  # otherwise nothing is made, and nothing is in the way
            assert (ready, reason) == ("False", "NameConflict")
            assert f"{kind.kind} {WORKERS!r} exists" in message
            assert told in message
        world.server.remove(kind, "shop", WORKERS)
        world.put_secret("openai", apiKey="first")
        await world.rolled_out()
        assert world.replicas == 1, "and when it is gone the agent starts"

    played(monkeypatch, scenario)


def test_its_own_are_kept_up_though_others_own_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        other = reference("Application", "shop", "uid-9")
        labels = metadata(Owner("shop", "ava", UID), WORKERS)["labels"]
        for kind in (DEPLOYMENT, POD_DISRUPTION_BUDGET):
            world.server.put(kind, their(kind.kind, other, reference(), **labels))
        await world.rolled_out()
        assert len(templates(world)) == 1
        assert len(world.server.written(POD_DISRUPTION_BUDGET)) == 1

    played(monkeypatch, scenario)


@pytest.mark.parametrize("status_code", [400, 403, 422])
def test_what_kubernetes_forbids_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch, status_code: int) -> None:
    async def scenario(world: World) -> None:
        refusal = ApiError(status_code, "Forbidden", "PATCH", "exceeded quota: workers")
        world.server.failures["apply", "Deployment"] = refusal
        assert await world.reconcile() == NOT_READY_SECONDS
        ready, reason, message = world.condition(ConditionType.READY)
        assert (ready, reason) == ("False", "ApplyRejected")
        assert "exceeded quota: workers" in message
        world.server.failures.clear()
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)


@pytest.mark.parametrize("error", [UNREACHABLE, ApiError(409, "Conflict", "PATCH", ""), ApiError(500, "", "PATCH", "")])
def test_what_may_work_the_next_time_is_left_to_the_queue(monkeypatch: pytest.MonkeyPatch, error: ApiError) -> None:
    async def scenario(world: World) -> None:
        world.server.failures["apply", "Deployment"] = error
        with pytest.raises(ApiError):
            await world.reconcile()
        world.server.failures.clear()
        await world.reconcile()
        assert world.replicas == 1

    played(monkeypatch, scenario)


def replica_set(name: str, config_map: str, wanted: int) -> Document:
    spec = {"volumes": [{"name": "config", "configMap": {"name": config_map}}]}
    return {
        "metadata": metadata(Owner("shop", "ava", UID), name),
        "spec": {"replicas": wanted, "template": {"spec": spec}},
        "status": {"replicas": wanted},
    }


def test_configurations_go_when_no_worker_has_them_and_none_can_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.reconcile()
        (first,) = world.configurations
        world.put_pod("old")
        world.server.put(REPLICA_SET, replica_set("rs-1", first, 1))
        world.put_agent(language="ar")
        await world.rolled_out()
        assert len(world.configurations) == 2, "an old worker finishes its calls with it"
        world.server.remove(POD, "shop", "old")
        await world.reconcile()
        assert first in world.configurations, "another pod may be started with it"
        world.server.put(REPLICA_SET, replica_set("rs-1", first, 0))
        await world.reconcile()
        assert len(world.configurations) == 1
        assert first not in world.configurations
        asked = world.server.requests["list", "ReplicaSet"]
        await world.reconcile()
        assert world.server.requests["list", "ReplicaSet"] == asked, "nothing is unused: nobody is asked"

    played(monkeypatch, scenario)


def test_configurations_of_other_agents_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.server.put(CONFIG_MAP, {"metadata": metadata(Owner("shop", "eva", "uid-eva"), "eva-worker-1")})
        world.server.put(CONFIG_MAP, {"metadata": {"namespace": "shop", "name": "ava-worker-by-hand"}})
        await world.rolled_out()
        assert {"eva-worker-1", "ava-worker-by-hand"} <= world.configurations

    played(monkeypatch, scenario)


def test_busy_workers_are_made_dear_before_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(**EAGER)
        wait_for_calls(world, 2)
        await world.reconcile()
        assert world.replicas == 2
        world.put_pod("busy", status(calls=1))
        world.put_pod("idle", status(calls=0))
        wait_for_calls(world, 0)
        await world.reconcile()
        assert world.replicas == 1
        written = [(verb, kind) for verb, kind, _ in world.server.writes]
        assert written.index(("merge", "Pod")) < max(
            number for number, (_, kind) in enumerate(written) if kind == "Deployment"
        )
        (cost,) = world.server.written(POD)
        assert cost == {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "1"}}}

    played(monkeypatch, scenario)


def test_a_number_that_somebody_changed_by_hand_is_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        edited = world.workers
        edited["spec"]["replicas"] = 9
        world.server.put(DEPLOYMENT, edited)
        await world.reconcile()
        assert KEY in world.changed
        assert world.replicas == 1

    played(monkeypatch, scenario)


def test_an_image_that_somebody_changed_by_hand_is_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.rolled_out()
        edited = world.workers
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = "mine:9"
        world.server.put(DEPLOYMENT, edited)
        await world.reconcile()
        assert world.workers["spec"]["template"]["spec"]["containers"][0]["image"] == "worker:1"

    played(monkeypatch, scenario)


def test_the_manifest_decides_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.put_agent(worker={"image": "mine:2"})
        await world.reconcile()
        assert world.workers["spec"]["template"]["spec"]["containers"][0]["image"] == "mine:2"

    played(monkeypatch, scenario)
