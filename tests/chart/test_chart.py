"""The rendered chart: security, references between its parts, and refusals of wrong values."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from agentspec import crd, names
from controller.desired.identity import Owner, labels
from gateway.__main__ import HANDOVER_SECONDS, SHUTDOWN_SECONDS
from gateway.settings import GatewaySettings
from process.metrics import AGENT_LABELS
from process.settings import SettingsError, load
from tests.chart.rendering import CHART, Documents, Renderer, pick


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_pods_pass_restricted_profile_with_read_only_root(render: Renderer, component: str) -> None:
    pod = pick(render(), "Deployment", f"test-{component}")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_crd_is_the_generated_one_and_survives_uninstall(render: Renderer) -> None:
    name = crd.crd()["metadata"]["name"]
    rendered = pick(render(), "CustomResourceDefinition", name)
    assert rendered["spec"] == crd.crd()["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in pick(render("crds.keep=false"), "CustomResourceDefinition", name)["metadata"]
    assert not [d for d in render("crds.install=false") if d["kind"] == "CustomResourceDefinition"]


def test_gateway_and_controller_agree_on_address_and_identity(render: Renderer) -> None:
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


def test_gateway_service_excludes_metrics(render: Renderer) -> None:
    documents = render()
    (container,) = pick(documents, "Deployment", "test-gateway")["spec"]["template"]["spec"]["containers"]
    assert {port["name"] for port in container["ports"]} == {"http", "probes", "internal"}
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("liveness", "readiness")} == {"probes"}
    assert [port["targetPort"] for port in pick(documents, "Service", "test-gateway")["spec"]["ports"]] == ["http"]


def test_second_controller_stands_by_on_another_node(render: Renderer) -> None:
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


def test_gateways_run_on_different_nodes_and_are_replaced_one_by_one(render: Renderer) -> None:
    documents = render()
    spec = pick(documents, "Deployment", "test-gateway")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    pod = spec["template"]["spec"]
    (spread,) = pod["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["labelSelector"]) == ("kubernetes.io/hostname", spec["selector"])
    assert pod["terminationGracePeriodSeconds"] > HANDOVER_SECONDS + SHUTDOWN_SECONDS
    budget = pick(documents, "PodDisruptionBudget", "test-gateway")["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, spec["selector"])


def test_only_gateways_reach_the_internal_port_of_a_gateway(render: Renderer) -> None:
    documents = render()
    deployment = pick(documents, "Deployment", "test-gateway")["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["internal"] == GatewaySettings().internal_port
    address = [entry["valueFrom"] for entry in container["env"] if entry["name"] == "POD_IP"]
    assert address == [{"fieldRef": {"fieldPath": "status.podIP"}}]
    policy = pick(documents, "NetworkPolicy", "test-gateway")["spec"]
    assert policy["podSelector"] == deployment["selector"]
    everyone, gateways = policy["ingress"]
    assert "from" not in everyone
    assert {port["port"] for port in everyone["ports"]} == {"http", "probes"}
    assert gateways["from"] == [{"podSelector": deployment["selector"]}]
    assert [port["port"] for port in gateways["ports"]] == ["internal"]


def test_controller_service_selects_the_leader(render: Renderer) -> None:
    documents = render()
    selector = pick(documents, "Service", "test-controller")["spec"]["selector"]
    assert selector.pop(names.LEADER_LABEL) == names.LEADER
    deployment = pick(documents, "Deployment", "test-controller")["spec"]
    assert selector == deployment["selector"]["matchLabels"]
    assert names.LEADER_LABEL not in deployment["template"]["metadata"]["labels"], "the leader labels itself"


def test_controller_gets_its_pod_and_lease(render: Renderer) -> None:
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
def test_every_object_has_labels_and_a_namespace(render: Renderer, settings: list[str]) -> None:
    cluster_scoped = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    for document in render(*settings):
        metadata = document["metadata"]
        if document["kind"] not in cluster_scoped:
            assert metadata["namespace"] in ("system", "agents")
        if document["kind"] != "CustomResourceDefinition":
            assert metadata["labels"]["app.kubernetes.io/instance"] == "test"


def test_pod_monitors_require_monitoring_enabled(render: Renderer) -> None:
    assert [d for d in render("monitoring.namespace=observe") if d["kind"] == "PodMonitor"] == []
    documents = render("monitoring.enabled=true", "monitoring.namespace=observe", "monitoring.labels.release=prom")
    monitors = {d["metadata"]["name"]: d for d in documents if d["kind"] == "PodMonitor"}
    assert set(monitors) == {"test-controller", "test-gateway", "test-worker"}
    assert all(monitor["metadata"]["labels"]["release"] == "prom" for monitor in monitors.values())


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_pod_monitor_matches_port_and_labels_of_pods(render: Renderer, component: str) -> None:
    documents = render("monitoring.enabled=true", "monitoring.namespace=observe")
    monitor = pick(documents, "PodMonitor", f"test-{component}")["spec"]
    template = pick(documents, "Deployment", f"test-{component}")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    probed = template["spec"]["containers"][0]["livenessProbe"]["httpGet"]["port"]
    job = {"targetLabel": "job", "replacement": f"avatar-agent-{component}"}
    assert endpoint == {"port": probed, "path": "/metrics", "interval": "30s", "relabelings": [job]}


def test_pod_monitors_follow_the_values(render: Renderer) -> None:
    settings = ("monitoring.enabled=true", "monitoring.namespace=observe", "monitoring.interval=15s")
    own = ("monitoring.relabelings[0].targetLabel=cluster", "monitoring.relabelings[0].replacement=eu")
    monitors = [d["spec"] for d in render(*settings, *own) if d["kind"] == "PodMonitor"]
    jobs = set()
    for monitor in monitors:
        (endpoint,) = monitor["podMetricsEndpoints"]
        first, *_, last = endpoint["relabelings"]
        jobs.add(first["replacement"])
        assert (endpoint["interval"], first["targetLabel"]) == ("15s", "job")
        assert last == {"targetLabel": "cluster", "replacement": "eu"}
    assert jobs == {"avatar-agent-controller", "avatar-agent-gateway", "avatar-agent-worker"}


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_scrape_annotations_name_the_port_of_metrics(render: Renderer, component: str) -> None:
    plain = pick(render(), "Deployment", f"test-{component}")["spec"]["template"]
    assert "annotations" not in plain["metadata"]
    documents = render("monitoring.scrapeAnnotations=true")
    template = pick(documents, "Deployment", f"test-{component}")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    probed = container["livenessProbe"]["httpGet"]["port"]
    (port,) = [entry["containerPort"] for entry in container["ports"] if entry["name"] == probed]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }


@pytest.mark.parametrize(
    ("settings", "where"),
    [([], {"any": True}), (["watchNamespace=agents"], {"matchNames": ["agents"]})],
    ids=["cluster-wide", "one namespace"],
)
def test_workers_are_scraped_in_all_served_namespaces(
    render: Renderer, settings: list[str], where: dict[str, Any]
) -> None:
    documents = render("monitoring.enabled=true", "monitoring.namespace=observe", *settings)
    monitor = pick(documents, "PodMonitor", "test-worker")["spec"]
    assert monitor["namespaceSelector"] == where
    assert monitor["selector"]["matchLabels"].items() <= labels(Owner("shop", "ava", "uid")).items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == "http"
    assert {relabeling["targetLabel"] for relabeling in endpoint["relabelings"]} == {"job", *AGENT_LABELS}


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
    ids=["release namespace", "watched namespace", "default namespace", "both"],
)
def test_gateway_gets_the_namespace_of_plain_names(render: Renderer, settings: list[str], namespace: str) -> None:
    assert gateway_env(render(*settings))["DEFAULT_NAMESPACE"] == namespace


def test_gateway_values_have_defaults_and_bounds_of_settings(render: Renderer) -> None:
    found = load(GatewaySettings, gateway_env(render()) | {"POD_NAME": "gateway"})
    assert (found.public_calls_per_minute, found.max_pending_per_agent, found.trusted_proxy_hops) == (30, 50, 0)
    assert found.public_calls_per_minute == GatewaySettings().public_calls_per_minute
    assert found.key_calls_per_minute == GatewaySettings().key_calls_per_minute
    assert found.agent_calls_per_minute == GatewaySettings().agent_calls_per_minute
    assert found.gateway_hosts == ()
    assert found.max_pending_per_agent == GatewaySettings().max_pending_per_agent
    bounds = json.loads((CHART / "values.schema.json").read_text())["properties"]["gateway"]["properties"]
    for value, variable in (
        ("publicCallsPerMinute", "PUBLIC_CALLS_PER_MINUTE"),
        ("keyCallsPerMinute", "KEY_CALLS_PER_MINUTE"),
        ("agentCallsPerMinute", "AGENT_CALLS_PER_MINUTE"),
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


def test_gateway_gets_the_hosts_of_its_page(render: Renderer) -> None:
    env = gateway_env(render("gateway.hosts={calls.example.com,calls.example.org}"))
    assert load(GatewaySettings, env).gateway_hosts == ("calls.example.com", "calls.example.org")


def test_gateway_gets_the_issuers_of_tokens(render: Renderer) -> None:
    assert load(GatewaySettings, gateway_env(render())).oidc_issuers == ()
    entry = {"issuer": "https://login.example.com", "audience": "avatar-agent", "agents": ["shop/ornina"]}
    entry |= {"jwksURL": "http://keys.auth.svc/jwks"}
    found = load(GatewaySettings, gateway_env(render("--set-json=gateway.oidc=" + json.dumps([entry]))))
    (issuer,) = found.oidc_issuers
    assert issuer.model_dump(mode="json", by_alias=True) == entry | {"namespaces": []}
    notes = render.notes("--set-json=gateway.oidc=" + json.dumps([entry]))
    assert "apiKeysSecret" not in notes


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_values_choose_nodes(render: Renderer, component: str) -> None:
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


def test_values_annotate_gateway_service(render: Renderer) -> None:
    service = pick(render("gateway.service.annotations.example\\.com/internal=yes"), "Service", "test-gateway")
    assert service["metadata"]["annotations"] == {"example.com/internal": "yes"}
    assert "annotations" not in pick(render(), "Service", "test-gateway")["metadata"]


def test_notes_say_what_to_do_next(render: Renderer) -> None:
    notes = render.notes("controller.replicas=1")
    for text in ("serves all namespaces", "get lease test-controller", "Set controller.replicas to 2", "apiKeysSecret"):
        assert text in notes
    assert notes.index("your keys in examples/ornina-secrets.yaml") < notes.index("Declare an agent:")
    assert "Set gateway.hosts" in notes
    assert "Set gateway.hosts" not in render.notes("gateway.hosts={calls.example.com}")
    assert "serves the namespace agents" in render.notes("watchNamespace=agents")


@pytest.mark.parametrize(
    ("settings", "texts"),
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
def test_notes_name_the_namespace_of_agents(render: Renderer, settings: list[str], texts: list[str]) -> None:
    notes = render.notes(*settings)
    assert [text for text in texts if text not in notes] == []


def test_notes_omit_gateway_without_replicas(render: Renderer) -> None:
    notes = render.notes("gateway.replicas=0")
    assert not [word for word in ("port-forward", "localhost", "apiKeysSecret", "gateway.hosts") if word in notes]
    assert "apply -n NAMESPACE" in notes


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("gateway.replicas=-1", "/gateway/replicas"),
        ("controller.replicas=0", "/controller/replicas"),
        ("images.pullPolicy=No", "/images/pullPolicy"),
        ("gatway.replicas=1", "gatway"),
        ("watchNamespace=Shop", "/watchNamespace"),
        ("gateway.apiKeysSecret=Keys", "/gateway/apiKeysSecret"),
        ("gateway.publicCallsPerMinute=0", "/gateway/publicCallsPerMinute"),
        ("gateway.hosts={https://calls.example.com}", "/gateway/hosts/0"),
        ("gateway.oidc[0].issuer=https://a.example,gateway.oidc[0].audience=a", "/gateway/oidc/0"),
        ("gateway.maxPendingPerAgent=10001", "/gateway/maxPendingPerAgent"),
        ("watchNamespace=agents,gateway.defaultNamespace=shop", "leave gateway.defaultNamespace out"),
        ("monitoring.enabled=true", "set it to the namespace that Prometheus runs in"),
        ("monitoring.interval=often", "/monitoring/interval"),
    ],
    ids=[
        "negative number of gateways",
        "no controller",
        "unknown pull policy",
        "misspelt section",
        "invalid namespace",
        "invalid Secret name",
        "no calls allowed",
        "host with a scheme",
        "tokens for all agents",
        "too many waiting calls",
        "namespace that is not served",
        "monitoring without namespace",
        "invalid interval",
    ],
)
def test_wrong_value_is_refused_by_name(render: Renderer, setting: str, text: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(setting)
    assert text in refused.value.stderr


def test_every_value_is_described() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert list(undescribed(schema, "")) == []
    assert list(undescribed({"properties": {"a": {"description": "A.", "properties": {"b": {}}}}}, "")) == ["a.b"]


def undescribed(node: dict[str, Any], prefix: str) -> Iterator[str]:
    """Yield the paths of values that the schema does not describe."""
    for name, value in node.get("properties", {}).items():
        if not value.get("description"):
            yield prefix + name
        yield from undescribed(value, f"{prefix}{name}.")
