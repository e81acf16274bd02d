"""The chart as helm renders it: security, references between the parts, and refusals of wrong values."""

import json
import subprocess
from typing import Any

import pytest

from agentspec import crd, names
from controller.desired.identity import Owner, labels
from gateway.settings import GatewaySettings
from process.settings import SettingsError, load
from tests.chart.rendering import CHART, Documents, Renderer, pick


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_pods_pass_the_restricted_profile_with_a_read_only_root(render: Renderer, component: str) -> None:
    pod = pick(render(), "Deployment", f"test-{component}")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_crd_is_the_generated_one_and_stays_when_the_chart_goes(render: Renderer) -> None:
    name = crd.crd()["metadata"]["name"]
    rendered = pick(render(), "CustomResourceDefinition", name)
    assert rendered["spec"] == crd.crd()["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in pick(render("crds.keep=false"), "CustomResourceDefinition", name)["metadata"]
    assert not [d for d in render("crds.install=false") if d["kind"] == "CustomResourceDefinition"]


def test_gateway_and_controller_agree_on_address_audience_and_account(render: Renderer) -> None:
    documents = render()
    gateway = pick(documents, "Deployment", "test-gateway")["spec"]["template"]["spec"]
    controller = pick(documents, "Deployment", "test-controller")["spec"]["template"]["spec"]
    env = {e["name"]: e.get("value") for e in gateway["containers"][0]["env"]}
    assert env["CONTROLLER_URL"] == "http://test-controller.system.svc"
    assert pick(documents, "Service", "test-controller")["spec"]["ports"][0]["port"] == 80
    accounts = {e["name"]: e.get("value") for e in controller["containers"][0]["env"]}
    assert accounts["GATEWAY_SERVICE_ACCOUNT"] == f"system:serviceaccount:system:{gateway['serviceAccountName']}"
    (token,) = [v for v in gateway["volumes"] if v["name"] == "controller-token"]
    assert token["projected"]["sources"][0]["serviceAccountToken"]["audience"] == names.DEMAND_AUDIENCE


def test_the_gateway_s_metrics_are_not_behind_its_service(render: Renderer) -> None:
    documents = render()
    (container,) = pick(documents, "Deployment", "test-gateway")["spec"]["template"]["spec"]["containers"]
    assert {port["name"] for port in container["ports"]} == {"http", "probes"}
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("liveness", "readiness")} == {"probes"}
    assert [port["targetPort"] for port in pick(documents, "Service", "test-gateway")["spec"]["ports"]] == ["http"]


def test_controllers_stand_by_for_each_other(render: Renderer) -> None:
    documents = render()
    spec = pick(documents, "Deployment", "test-controller")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    (spread,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert spread["podAffinityTerm"]["labelSelector"] == spec["selector"]
    budget = pick(documents, "PodDisruptionBudget", "test-controller")["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, spec["selector"])


def test_gateways_reach_the_controller_that_leads(render: Renderer) -> None:
    documents = render()
    selector = pick(documents, "Service", "test-controller")["spec"]["selector"]
    assert selector.pop(names.LEADER_LABEL) == names.LEADER
    deployment = pick(documents, "Deployment", "test-controller")["spec"]
    assert selector == deployment["selector"]["matchLabels"]
    assert names.LEADER_LABEL not in deployment["template"]["metadata"]["labels"], "the leader gives it to itself"


def test_the_controller_knows_its_pod_and_its_lease(render: Renderer) -> None:
    env = controller_env(render("monitoring.namespace=observe", "watchNamespace=agents"))
    assert env["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert env["POD_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    assert (env["LEASE_NAME"], env["MONITORING_NAMESPACE"], env["WATCH_NAMESPACE"]) == (
        "test-controller",
        "observe",
        "agents",
    )


def controller_env(documents: Documents) -> dict[str, Any]:
    (container,) = pick(documents, "Deployment", "test-controller")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


@pytest.mark.parametrize("settings", [[], ["watchNamespace=agents"]], ids=["cluster-wide", "one namespace"])
def test_every_object_of_the_release_has_its_labels_and_a_place(render: Renderer, settings: list[str]) -> None:
    cluster_scoped = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    for document in render(*settings):
        metadata = document["metadata"]
        if document["kind"] not in cluster_scoped:
            assert metadata["namespace"] in ("system", "agents")
        if document["kind"] != "CustomResourceDefinition":
            assert metadata["labels"]["app.kubernetes.io/instance"] == "test"


def test_pod_monitors_only_where_they_are_asked_for(render: Renderer) -> None:
    assert [d for d in render("monitoring.namespace=observe") if d["kind"] == "PodMonitor"] == []
    documents = render("monitoring.enabled=true", "monitoring.namespace=observe", "monitoring.labels.release=prom")
    monitors = {d["metadata"]["name"]: d for d in documents if d["kind"] == "PodMonitor"}
    assert set(monitors) == {"test-controller", "test-gateway", "test-worker"}
    assert all(monitor["metadata"]["labels"]["release"] == "prom" for monitor in monitors.values())


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_a_pod_monitor_s_port_and_labels_are_those_of_the_pods(render: Renderer, component: str) -> None:
    documents = render("monitoring.enabled=true", "monitoring.namespace=observe")
    monitor = pick(documents, "PodMonitor", f"test-{component}")["spec"]
    template = pick(documents, "Deployment", f"test-{component}")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    probed = template["spec"]["containers"][0]["livenessProbe"]["httpGet"]["port"]
    assert endpoint == {"port": probed, "path": "/metrics"}


@pytest.mark.parametrize(
    ("settings", "where"),
    [([], {"any": True}), (["watchNamespace=agents"], {"matchNames": ["agents"]})],
    ids=["cluster-wide", "one namespace"],
)
def test_workers_are_scraped_by_label_wherever_they_are(
    render: Renderer, settings: list[str], where: dict[str, Any]
) -> None:
    documents = render("monitoring.enabled=true", "monitoring.namespace=observe", *settings)
    monitor = pick(documents, "PodMonitor", "test-worker")["spec"]
    assert monitor["namespaceSelector"] == where
    assert monitor["selector"]["matchLabels"].items() <= labels(Owner("shop", "ava", "uid")).items()
    assert monitor["podMetricsEndpoints"][0]["port"] == "http"


def gateway_env(documents: Documents) -> dict[str, str]:
    (container,) = pick(documents, "Deployment", "test-gateway")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


@pytest.mark.parametrize(
    ("settings", "namespace"),
    [
        ([], "system"),
        (["watchNamespace=agents"], "agents"),
        (["gateway.defaultNamespace=shop"], "shop"),
        (["watchNamespace=agents", "gateway.defaultNamespace=agents"], "agents"),
    ],
    ids=["the release's", "the one that is served", "as wished", "both"],
)
def test_plain_names_are_looked_up_where_agents_can_be(render: Renderer, settings: list[str], namespace: str) -> None:
    assert gateway_env(render(*settings))["DEFAULT_NAMESPACE"] == namespace


def test_the_gateway_s_settings_are_values_with_the_same_defaults_and_bounds(render: Renderer) -> None:
    found = load(GatewaySettings, gateway_env(render()) | {"POD_NAME": "gateway"})
    assert (found.public_calls_per_minute, found.max_pending_per_agent, found.trusted_proxy_hops) == (30, 50, 0)
    assert found.public_calls_per_minute == GatewaySettings().public_calls_per_minute
    assert found.max_pending_per_agent == GatewaySettings().max_pending_per_agent
    bounds = json.loads((CHART / "values.schema.json").read_text())["properties"]["gateway"]["properties"]
    for value, variable in (
        ("publicCallsPerMinute", "PUBLIC_CALLS_PER_MINUTE"),
        ("maxPendingPerAgent", "MAX_PENDING_PER_AGENT"),
        ("trustedProxyHops", "TRUSTED_PROXY_HOPS"),
    ):
        lowest, highest = bounds[value]["minimum"], bounds[value]["maximum"]
        for number in (lowest, highest):
            text = gateway_env(render(f"gateway.{value}={number}"))[variable]
            assert text == str(number)
            load(GatewaySettings, {variable: text})
        for number in (lowest - 1, highest + 1):
            with pytest.raises(SettingsError):
                load(GatewaySettings, {variable: str(number)})


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_pods_run_on_the_nodes_that_are_chosen(render: Renderer, component: str) -> None:
    chosen = render(
        f"{component}.nodeSelector.pool=voice",
        f"{component}.tolerations[0].key=voice",
        f"{component}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
        ".matchExpressions[0].key=voice",
    )
    pod = pick(chosen, "Deployment", f"test-{component}")["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "voice"}, [{"key": "voice"}])
    assert set(pod["affinity"]) == {"nodeAffinity"}
    plain = pick(render(), "Deployment", f"test-{component}")["spec"]["template"]["spec"]
    assert not {"nodeSelector", "tolerations"} & set(plain)


def test_the_gateway_s_service_is_annotated_for_what_stands_before_it(render: Renderer) -> None:
    service = pick(render("gateway.service.annotations.example\\.com/internal=yes"), "Service", "test-gateway")
    assert service["metadata"]["annotations"] == {"example.com/internal": "yes"}
    assert "annotations" not in pick(render(), "Service", "test-gateway")["metadata"]


def test_notes_tell_how_to_go_on(render: Renderer) -> None:
    notes = render.notes("controller.replicas=1")
    for told in ("serves all namespaces", "get lease test-controller", "Set controller.replicas to 2", "apiKeysSecret"):
        assert told in notes
    assert "serves the namespace agents" in render.notes("watchNamespace=agents")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ([], ["apply -n NAMESPACE ", "?agent=NAMESPACE/NAME (Public agents)"]),
        (["watchNamespace=agents"], ["apply -n agents ", "?agent=NAME (Public agents)\n"]),
        (
            ["gateway.defaultNamespace=shop"],
            ["apply -n shop ", "?agent=NAME (Public agents in shop; others: ?agent=NAMESPACE/NAME)"],
        ),
    ],
    ids=["all namespaces", "one namespace", "a default namespace"],
)
def test_notes_name_the_namespace_that_agents_are_found_in(
    render: Renderer, settings: list[str], told: list[str]
) -> None:
    notes = render.notes(*settings)
    assert [words for words in told if words not in notes] == []


def test_notes_do_not_speak_of_a_gateway_that_does_not_run(render: Renderer) -> None:
    notes = render.notes("gateway.replicas=0")
    assert not [word for word in ("port-forward", "localhost", "apiKeysSecret") if word in notes]
    assert "apply -n NAMESPACE" in notes


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("gateway.replicas=2", "/gateway/replicas"),
        ("controller.replicas=0", "/controller/replicas"),
        ("images.pullPolicy=No", "/images/pullPolicy"),
        ("gatway.replicas=1", "gatway"),
        ("watchNamespace=Shop", "/watchNamespace"),
        ("gateway.apiKeysSecret=Keys", "/gateway/apiKeysSecret"),
        ("gateway.publicCallsPerMinute=0", "/gateway/publicCallsPerMinute"),
        ("gateway.maxPendingPerAgent=10001", "/gateway/maxPendingPerAgent"),
        ("watchNamespace=agents,gateway.defaultNamespace=shop", "leave gateway.defaultNamespace out"),
        ("monitoring.enabled=true", "set it to the namespace that Prometheus runs in"),
    ],
    ids=[
        "two gateways",
        "no controller",
        "an unknown pull policy",
        "a misspelt section",
        "a name that no namespace has",
        "a name that no Secret has",
        "no calls",
        "too many that wait",
        "a namespace that is not served",
        "monitoring from nowhere",
    ],
)
def test_wrong_values_are_refused_with_the_value_s_name(render: Renderer, setting: str, told: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(setting)
    assert told in refused.value.stderr
