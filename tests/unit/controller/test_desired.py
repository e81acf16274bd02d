"""The objects that an agent becomes."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from agentspec import KnowledgeDocument, WorkerConfig, WorkerSpec
from controller.desired.configmap import config_map, worker_config
from controller.desired.deployment import deployment, digest_of, grace_seconds, pod_template
from controller.desired.identity import Owner
from controller.desired.poddisruptionbudget import pod_disruption_budget
from controller.desired.shared import network_policy, service_account
from tests.unit.controller.builders import TAVUS, spec

OWNER = Owner("shop", "ava", "uid-1")


def made_from(
    credentials: str = "0123456789ab", config_map_name: str = "ava-worker-1", **changes: Any
) -> dict[str, Any]:
    return pod_template(
        OWNER,
        spec(**changes),
        default_image="worker:1",
        config_map_name=config_map_name,
        credentials=credentials,
    )


def build(**changes: Any) -> dict[str, Any]:
    return deployment(OWNER, made_from(**changes), replicas=2)


def configured(documents: Sequence[KnowledgeDocument] = (), **changes: Any) -> WorkerConfig:
    return worker_config(OWNER, spec(**changes), "Be brief.", "Welcome.", documents)


def pod(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["template"]["spec"]
    return found


def container(document: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(document)["containers"]
    return dict(found)


def environment(document: dict[str, Any]) -> dict[str, Any]:
    return {variable["name"]: variable for variable in container(document)["env"]}


def test_the_same_input_gives_the_same_documents() -> None:
    assert build() == build()
    assert json.dumps(build()) == json.dumps(build())


def test_every_child_is_labelled_and_owned() -> None:
    for document in (build(), config_map(OWNER, configured()), pod_disruption_budget(OWNER)):
        assert document["metadata"]["namespace"] == "shop"
        assert document["metadata"]["labels"] == {
            "avataragents.io/agent": "ava",
            "app.kubernetes.io/managed-by": "avatar-agent",
            "app.kubernetes.io/component": "worker",
        }
        (owner,) = document["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == (
            "AvatarAgent",
            "ava",
            "uid-1",
            True,
        )


def test_the_deployment_selects_its_own_pods_and_brings_new_before_old() -> None:
    document = build()
    assert document["metadata"]["name"] == "ava-worker"
    assert document["spec"]["replicas"] == 2
    assert document["spec"]["selector"]["matchLabels"] == document["spec"]["template"]["metadata"]["labels"]
    assert document["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_pods_have_no_rights_and_no_token() -> None:
    document = build()
    security = pod(document)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(document)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(document)["automountServiceAccountToken"] is False
    assert pod(document)["serviceAccountName"] == service_account("shop")["metadata"]["name"]
    assert service_account("shop")["automountServiceAccountToken"] is False


def test_credentials_come_from_the_secrets_named_and_nowhere_else() -> None:
    found = environment(build(avatar=TAVUS))
    references = {name: entry["valueFrom"].get("secretKeyRef") for name, entry in found.items() if "valueFrom" in entry}
    assert references == {
        "LIVEKIT_API_KEY": {"name": "livekit", "key": "apiKey"},
        "LIVEKIT_API_SECRET": {"name": "livekit", "key": "apiSecret"},
        "OPENAI_API_KEY": {"name": "openai", "key": "apiKey"},
        "TAVUS_API_KEY": {"name": "tavus", "key": "apiKey"},
    }
    assert set(found) - set(references) == {"PROMETHEUS_MULTIPROC_DIR"}, "a worker is told nothing that it never reads"


def test_without_an_avatar_there_is_no_key_for_one() -> None:
    assert "TAVUS_API_KEY" not in environment(build())


def test_everything_that_a_worker_writes_to_is_a_volume_of_its_own() -> None:
    document = build()
    mounts = {mount["mountPath"]: mount["name"] for mount in container(document)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(document)["volumes"]}
    assert volumes[mounts["/tmp"]]["emptyDir"] == {}
    assert volumes[mounts[environment(document)["PROMETHEUS_MULTIPROC_DIR"]["value"]]]["emptyDir"] == {}
    assert volumes[mounts["/etc/avatar-agent"]]["configMap"] == {"name": "ava-worker-1"}


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 480), (60, 4020), (720, 43620)])
def test_the_grace_covers_the_longest_call_and_the_sdks_closing(minutes: int, seconds: int) -> None:
    assert grace_seconds(WorkerSpec(max_call_minutes=minutes)) == seconds
    assert pod(build(worker={"maxCallMinutes": minutes}))["terminationGracePeriodSeconds"] == seconds


def test_image_and_resources_are_the_manifests_or_the_releases() -> None:
    assert container(build())["image"] == "worker:1"
    assert container(build(worker={"image": "mine:2"}))["image"] == "mine:2"
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    assert container(build(worker={"resources": resources}))["resources"] == resources


def test_where_the_pods_may_run_is_the_manifests() -> None:
    settings = {
        "nodeSelector": {"pool": "voice"},
        "tolerations": [{"key": "voice", "operator": "Equal", "value": "only", "effect": "NoSchedule"}],
        "priorityClassName": "calls",
        "imagePullSecrets": [{"name": "registry"}],
    }
    placed = pod(build(worker={"pod": settings}))
    assert {field: placed[field] for field in settings} == settings
    assert not set(settings) & set(pod(build())), "what nobody wrote is left to the cluster"


def test_annotations_of_the_manifest_are_on_the_pods_beside_those_of_the_controller() -> None:
    found = made_from(worker={"pod": {"annotations": {"team": "sales"}}})["metadata"]["annotations"]
    assert found["team"] == "sales"
    assert found["avataragents.io/credentials"] == "0123456789ab"
    assert found["avataragents.io/template"] == digest_of(made_from(worker={"pod": {"annotations": {"team": "sales"}}}))


@pytest.mark.parametrize(
    ("changes", "rolls"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"config_map_name": "ava-worker-2"}, True, id="the configuration"),
        pytest.param({"credentials": "other"}, True, id="a Secret's value"),
        pytest.param({"worker": {"image": "mine:2"}}, True, id="the image"),
        pytest.param({"worker": {"pod": {"annotations": {"team": "sales"}}}}, True, id="an annotation"),
        pytest.param({"scaling": {"maxWorkers": 7}}, False, id="the number of workers"),
        pytest.param({"suspend": True}, False, id="a suspension"),
    ],
)
def test_a_template_is_another_only_when_pods_must_be(changes: dict[str, Any], rolls: bool) -> None:
    assert (digest_of(made_from(**changes)) != digest_of(made_from())) is rolls


def test_a_node_that_is_drained_takes_one_worker_after_the_other() -> None:
    budget = pod_disruption_budget(OWNER)
    assert budget["metadata"]["name"] == "ava-worker"
    assert budget["spec"] == {
        "maxUnavailable": 1,
        "selector": build()["spec"]["selector"],
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def test_what_serves_a_namespace_belongs_to_no_single_agent() -> None:
    for document in (service_account("shop"), network_policy("shop", ["operator"])):
        metadata = document["metadata"]
        assert (metadata["namespace"], metadata["name"]) == ("shop", "avatar-agent-worker")
        assert "ownerReferences" not in metadata
        assert "avataragents.io/agent" not in metadata["labels"]


def test_only_the_named_namespaces_reach_workers_and_only_their_port() -> None:
    policy = network_policy("shop", ["operator", "monitoring"])["spec"]
    labels = build()["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    names = [source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for source in rule["from"]]
    assert names == ["operator", "monitoring"]
    (port,) = container(build())["ports"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    assert policy["policyTypes"] == ["Ingress"], "workers may call out: to LiveKit and to the providers"


def test_the_configuration_is_what_a_worker_reads() -> None:
    text = KnowledgeDocument(name="facts/a", text="An hour is 500.")
    config = configured([text], agentName="declared", language="ar")
    document = config_map(OWNER, config)
    assert document["immutable"] is True
    read = WorkerConfig.model_validate_json(document["data"]["agent.json"])
    assert read == config
    assert (read.agent_name, read.language, read.livekit_url) == ("declared", "ar", "wss://livekit.example")
    assert (read.instructions, read.greeting, read.knowledge) == ("Be brief.", "Welcome.", [text])


def test_another_configuration_is_another_name_and_the_same_one_is_not() -> None:
    def name(**changes: Any) -> str:
        return str(config_map(OWNER, configured(**changes))["metadata"]["name"])

    assert name() == name()
    assert name() != name(language="ar")
    assert name() == name(scaling={"maxWorkers": 7}), "what does not concern a worker does not roll workers"
    assert name(avatar=TAVUS) == name(avatar={**TAVUS, "maxSessions": 5}), "the gateway counts the seats"
    assert name().startswith("ava-worker-")
