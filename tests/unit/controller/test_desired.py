"""The desired children of an agent."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from agentspec import KnowledgeDocument, WorkerConfig, WorkerSpec
from agentspec.wire import read
from controller.desired.configmap import config_map, worker_config
from controller.desired.deployment import deployment, digest_of, grace_seconds, pod_template
from controller.desired.identity import Owner
from controller.desired.poddisruptionbudget import pod_disruption_budget
from controller.desired.shared import network_policy, service_account
from tests.unit.controller.builders import TAVUS, spec

START_SECONDS = 15
"""A worker's start on a busy node."""
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


def test_same_input_gives_the_same_documents() -> None:
    assert build() == build()
    assert json.dumps(build()) == json.dumps(build())


def test_every_child_has_labels_and_an_owner() -> None:
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


def test_deployment_selects_its_pods_and_starts_new_before_old() -> None:
    document = build()
    assert document["metadata"]["name"] == "ava-worker"
    assert document["spec"]["replicas"] == 2
    assert document["spec"]["selector"]["matchLabels"] == document["spec"]["template"]["metadata"]["labels"]
    assert document["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_pods_have_no_privileges_and_no_token() -> None:
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


def test_credentials_come_from_the_named_secrets_only() -> None:
    found = environment(build(avatar=TAVUS))
    references = {name: entry["valueFrom"].get("secretKeyRef") for name, entry in found.items() if "valueFrom" in entry}
    assert references == {
        "LIVEKIT_API_KEY": {"name": "livekit", "key": "apiKey"},
        "LIVEKIT_API_SECRET": {"name": "livekit", "key": "apiSecret"},
        "OPENAI_API_KEY": {"name": "openai", "key": "apiKey"},
        "TAVUS_API_KEY": {"name": "tavus", "key": "apiKey"},
    }
    own = {"PROMETHEUS_MULTIPROC_DIR", "AVATAR_AGENT_UID"}
    assert set(found) - set(references) == own, "a worker gets nothing that it never reads"


def test_stages_with_own_credentials_get_them_in_own_variables() -> None:
    own = {"provider": "Plugin", "plugin": "deepgram", "credentialsSecretRef": {"name": "deepgram"}}
    llm = {"baseURL": "http://vllm:8000/v1", "fallbacks": [{"credentialsSecretRef": {"name": "spare"}}]}
    found = environment(build(voice={"stt": own, "llm": llm, "tts": {"provider": "Inference", "model": "a/b"}}))
    references = {name: entry["valueFrom"]["secretKeyRef"] for name, entry in found.items() if "valueFrom" in entry}
    assert references == {
        "LIVEKIT_API_KEY": {"name": "livekit", "key": "apiKey"},
        "LIVEKIT_API_SECRET": {"name": "livekit", "key": "apiSecret"},
        "AVATAR_AGENT_STT_KEY": {"name": "deepgram", "key": "apiKey"},
        "AVATAR_AGENT_LLM_KEY_1": {"name": "spare", "key": "apiKey"},
    }


def test_worker_with_avatar_knows_the_uid_that_no_other_cluster_has() -> None:
    assert environment(build(avatar=TAVUS))["AVATAR_AGENT_UID"] == {"name": "AVATAR_AGENT_UID", "value": "uid-1"}


def test_worker_without_avatar_gets_no_avatar_key() -> None:
    assert environment(build()).keys().isdisjoint({"TAVUS_API_KEY", "AVATAR_AGENT_UID"})


def test_worker_gets_the_key_of_its_avatar_plugin() -> None:
    plugin = {"name": "bey", "credentialsSecretRef": {"name": "bey"}}
    found = environment(build(avatar={"provider": "Plugin", "plugin": plugin}))
    reference = found["AVATAR_AGENT_AVATAR_KEY"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "bey", "key": "apiKey"}
    for avatar in ({"provider": "None", "plugin": plugin}, {"provider": "Plugin", "plugin": {"name": "bey"}}):
        assert "AVATAR_AGENT_AVATAR_KEY" not in environment(build(avatar=avatar))


def test_every_writable_path_is_a_volume() -> None:
    document = build()
    mounts = {mount["mountPath"]: mount["name"] for mount in container(document)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(document)["volumes"]}
    assert volumes[mounts["/tmp"]]["emptyDir"] == {}
    assert volumes[mounts[environment(document)["PROMETHEUS_MULTIPROC_DIR"]["value"]]]["emptyDir"] == {}
    assert volumes[mounts["/etc/avatar-agent"]]["configMap"] == {"name": "ava-worker-1"}


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 480), (60, 4020), (720, 43620)])
def test_grace_period_covers_the_longest_call_and_closing(minutes: int, seconds: int) -> None:
    assert grace_seconds(WorkerSpec(max_call_minutes=minutes)) == seconds
    assert pod(build(worker={"maxCallMinutes": minutes}))["terminationGracePeriodSeconds"] == seconds


CALL_PROCESS_SECONDS = 70
"""livekit-agents ends a call process this long after the last ping of its main process (ipc/proc_client.py)."""


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe"])
def test_worker_that_hangs_is_replaced_within_two_minutes(probe: str) -> None:
    """It finishes no calls, so the pod's grace period, which is longer than an hour, must not apply."""
    made = container(build(worker={"maxCallMinutes": 60}))[probe]
    assert made["httpGet"]["path"] == "/livez"
    assert made["terminationGracePeriodSeconds"] == 5
    if probe == "livenessProbe":
        unanswered = made["periodSeconds"] * made["failureThreshold"] + made["timeoutSeconds"]
        assert unanswered - made["periodSeconds"] > CALL_PROCESS_SECONDS, "no call of a worker that hangs is cut"
        assert unanswered + made["terminationGracePeriodSeconds"] + START_SECONDS < 120


def test_sigterm_waits_until_the_init_process_of_a_new_pod_handles_it() -> None:
    assert container(build())["lifecycle"] == {"preStop": {"sleep": {"seconds": 1}}}


def test_image_and_resources_have_defaults() -> None:
    assert container(build())["image"] == "worker:1"
    assert container(build(worker={"image": "mine:2"}))["image"] == "mine:2"
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    assert container(build(worker={"resources": resources}))["resources"] == resources


def test_scheduling_settings_come_from_the_manifest() -> None:
    settings = {
        "nodeSelector": {"pool": "voice"},
        "tolerations": [{"key": "voice", "operator": "Equal", "value": "only", "effect": "NoSchedule"}],
        "priorityClassName": "calls",
        "imagePullSecrets": [{"name": "registry"}],
    }
    placed = pod(build(worker={"pod": settings}))
    assert {field: placed[field] for field in settings} == settings
    assert not set(settings) & set(pod(build())), "unset fields are left to the cluster"


def test_pods_have_the_manifests_and_the_controllers_annotations() -> None:
    found = made_from(worker={"pod": {"annotations": {"team": "sales"}}})["metadata"]["annotations"]
    assert found["team"] == "sales"
    assert found["avataragents.io/credentials"] == "0123456789ab"
    assert found["avataragents.io/template"] == digest_of(made_from(worker={"pod": {"annotations": {"team": "sales"}}}))


@pytest.mark.parametrize(
    ("changes", "rolls"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"config_map_name": "ava-worker-2"}, True, id="the configuration"),
        pytest.param({"credentials": "other"}, True, id="a Secret value"),
        pytest.param({"worker": {"image": "mine:2"}}, True, id="the image"),
        pytest.param({"worker": {"pod": {"annotations": {"team": "sales"}}}}, True, id="an annotation"),
        pytest.param({"worker": {"env": [{"name": "MENU", "value": "a"}]}}, True, id="a variable"),
        pytest.param({"worker": {"envFrom": [{"secretRef": {"name": "own"}}]}}, True, id="a source of variables"),
        pytest.param({"scaling": {"maxWorkers": 7}}, False, id="the number of workers"),
        pytest.param({"suspend": True}, False, id="suspend"),
    ],
)
def test_template_changes_only_when_pods_must_be_replaced(changes: dict[str, Any], rolls: bool) -> None:
    assert (digest_of(made_from(**changes)) != digest_of(made_from())) is rolls


def test_node_drain_evicts_one_worker_at_a_time() -> None:
    budget = pod_disruption_budget(OWNER)
    assert budget["metadata"]["name"] == "ava-worker"
    assert budget["spec"] == {
        "maxUnavailable": 1,
        "selector": build()["spec"]["selector"],
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def test_shared_objects_have_no_owner() -> None:
    for document in (service_account("shop"), network_policy("shop", ["operator"])):
        metadata = document["metadata"]
        assert (metadata["namespace"], metadata["name"]) == ("shop", "avatar-agent-worker")
        assert "ownerReferences" not in metadata
        assert "avataragents.io/agent" not in metadata["labels"]


def test_only_named_namespaces_may_connect_to_workers() -> None:
    policy = network_policy("shop", ["operator", "monitoring"])["spec"]
    labels = build()["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    names = [source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for source in rule["from"]]
    assert names == ["operator", "monitoring"]
    (port,) = container(build())["ports"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    assert policy["policyTypes"] == ["Ingress"], "workers may call out: to LiveKit and to the providers"


def test_worker_can_read_the_configuration() -> None:
    text = KnowledgeDocument(name="facts/a", text="An hour is 500.")
    config = configured([text], agentName="declared", language="ar")
    document = config_map(OWNER, config)
    assert document["immutable"] is True
    read = WorkerConfig.model_validate_json(document["data"]["agent.json"])
    assert read == config
    assert (read.agent_name, read.language, read.livekit_url) == ("declared", "ar", "wss://livekit.example")
    assert (read.instructions, read.greeting, read.knowledge) == ("Be brief.", "Welcome.", [text])


def test_default_conversation_is_left_out_for_older_workers() -> None:
    def document(**changes: Any) -> dict[str, Any]:
        text = config_map(OWNER, configured(**changes))["data"]["agent.json"]
        loaded: dict[str, Any] = json.loads(text)
        return loaded

    assert "conversation" not in document()
    assert "conversation" not in document(conversation={"idlePromptSeconds": 60})
    changed = document(conversation={"idlePromptSeconds": 0})
    assert changed["conversation"] == {
        "idlePromptSeconds": 0,
        "idleHangUpSeconds": 30,
        "announceEnd": True,
        "resumeAfterRescue": True,
    }
    assert read(WorkerConfig, json.dumps(changed)).conversation.idle_prompt_seconds == 0


def test_own_code_is_left_out_where_none_is_declared() -> None:
    """An upgrade must change no worker configuration: it would roll every agent out."""
    document = json.loads(config_map(OWNER, configured())["data"]["agent.json"])
    assert not {"agentCode", "settings", "secretVariables"} & set(document)
    assert "envFrom" not in container(build())


def test_own_code_reaches_the_worker() -> None:
    changes = {"worker": {"agent": "shop.agents:Receptionist"}, "settings": {"menu": {"soup": 4.5}}}
    config = worker_config(OWNER, spec(**changes), "Be brief.", "", (), ("DB_URL", "API_KEY"))
    document = json.loads(config_map(OWNER, config)["data"]["agent.json"])
    assert document["agentCode"] == "shop.agents:Receptionist"
    assert document["settings"] == {"menu": {"soup": 4.5}}
    assert document["secretVariables"] == ["API_KEY", "DB_URL"]
    assert read(WorkerConfig, json.dumps(document)) == config


TOOLS = [
    {"name": "goodbye", "endCall": {}},
    {
        "name": "shop",
        "mcp": {
            "url": "https://shop.example/mcp",
            "headers": [{"name": "Authorization", "secretKeyRef": {"name": "shop", "key": "token"}}],
        },
    },
]


def test_tools_are_left_out_where_none_is_declared() -> None:
    assert "tools" not in json.loads(config_map(OWNER, configured())["data"]["agent.json"])


def test_headers_of_tools_come_from_their_secrets() -> None:
    assert [tool.name for tool in configured(tools=TOOLS).tools] == ["goodbye", "shop"]
    reference = environment(build(tools=TOOLS))["AVATAR_AGENT_TOOL_1_HEADER_0"]["valueFrom"]
    assert reference == {"secretKeyRef": {"name": "shop", "key": "token"}}


REPORT = {
    "url": "https://crm.example/calls",
    "secretKeyRef": {"name": "crm", "key": "signingKey"},
    "include": ["Usage"],
    "prices": {"currency": "USD", "models": [{"model": "tts-1", "perMillionCharacters": 15}]},
}
TRACING = {
    "otlpEndpoint": "http://collector:4318",
    "headers": [{"name": "Authorization", "secretKeyRef": {"name": "traces", "key": "token"}}],
}


def test_reports_and_traces_are_left_out_where_none_is_declared() -> None:
    document = json.loads(config_map(OWNER, configured())["data"]["agent.json"])
    assert not {"report", "tracing"} & set(document)
    assert not [name for name in environment(build()) if name.startswith("AVATAR_AGENT_")]


def test_reports_and_traces_get_their_secrets_as_variables() -> None:
    config = configured(report=REPORT, tracing=TRACING)
    assert read(WorkerConfig, config_map(OWNER, config)["data"]["agent.json"]) == config
    assert config.header_variables == ["AVATAR_AGENT_TRACING_HEADER_0"]
    variables = environment(build(report=REPORT, tracing=TRACING))
    assert variables["AVATAR_AGENT_REPORT_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "crm", "key": "signingKey"}}
    assert variables["AVATAR_AGENT_TRACING_HEADER_0"]["valueFrom"] == {
        "secretKeyRef": {"name": "traces", "key": "token"}
    }


def test_variables_are_as_the_manifest_declares_them() -> None:
    variables = [
        {"name": "MENU", "value": "soup"},
        {"name": "EMPTY", "value": ""},
        {"name": "DB_URL", "valueFrom": {"secretKeyRef": {"name": "own", "key": "url"}}},
        {"name": "TONE", "valueFrom": {"configMapKeyRef": {"name": "tones", "key": "calm"}}},
    ]
    sources = [{"secretRef": {"name": "own"}}, {"prefix": "SHOP_", "configMapRef": {"name": "shop"}}]
    document = build(worker={"env": variables, "envFrom": sources})
    assert container(document)["env"][-4:] == variables
    assert container(document)["env"][:-4] == container(build())["env"]
    assert container(document)["envFrom"] == sources


def test_public_url_reaches_workers_with_an_avatar_only() -> None:
    def document(**changes: Any) -> dict[str, Any]:
        livekit = {"url": "ws://livekit.svc:7880", "credentialsSecretRef": {"name": "livekit"}}
        config = configured(livekit=livekit | {"publicURL": "wss://voice.example"}, **changes)
        loaded: dict[str, Any] = json.loads(config_map(OWNER, config)["data"]["agent.json"])
        return loaded

    assert document()["livekitURL"] == "ws://livekit.svc:7880"
    assert "avatarLivekitURL" not in document(), "workers of release 0.1.0 reject unknown fields"
    assert document(avatar=TAVUS)["avatarLivekitURL"] == "wss://voice.example"
    assert read(WorkerConfig, json.dumps(document(avatar=TAVUS))).livekit_url == "ws://livekit.svc:7880"


def test_avatar_plugin_reaches_workers_and_no_other_configuration() -> None:
    plugin = {"name": "bey", "options": {"avatar_id": "a", "conn_options": {"timeout": 3.5}}}
    text = config_map(OWNER, configured(avatar={"provider": "Plugin", "plugin": plugin}))["data"]["agent.json"]
    declared = read(WorkerConfig, text).avatar.plugin
    assert declared is not None and (declared.name, declared.options) == ("bey", plugin["options"])
    for avatar in (TAVUS, {"provider": "None"}):
        document = json.loads(config_map(OWNER, configured(avatar=avatar))["data"]["agent.json"])
        assert "plugin" not in document["avatar"], "workers of release 0.1.0 reject unknown fields"


def test_config_map_name_follows_its_content() -> None:
    def name(**changes: Any) -> str:
        return str(config_map(OWNER, configured(**changes))["metadata"]["name"])

    assert name() == name()
    assert name() != name(language="ar")
    assert name() == name(scaling={"maxWorkers": 7}), "what does not concern a worker does not roll workers"
    assert name(avatar=TAVUS) == name(avatar={**TAVUS, "maxSessions": 5}), "the gateway counts the seats"
    assert name().startswith("ava-worker-")
