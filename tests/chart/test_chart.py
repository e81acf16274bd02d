"""The chart as helm renders it: security, references between the parts, and refusals of wrong values."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentspec import crd, names
from devkit import binaries
from devkit.progress import LogProgress
from devkit.tools import HELM

CHART = Path(__file__).resolve().parents[2] / "charts" / "avatar-agent"


@pytest.fixture(scope="session")
def helm() -> str:
    return str(binaries.ensure(LogProgress(), [HELM])["helm"])


def render(helm: str, *settings: str) -> list[dict[str, Any]]:
    flags = [part for setting in settings for part in ("--set", setting)]
    argv = [helm, "template", "test", str(CHART), "-n", "system", *flags]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pick(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_pods_pass_the_restricted_profile_with_a_read_only_root(helm: str, component: str) -> None:
    pod = pick(render(helm), "Deployment", f"test-{component}")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_crd_is_the_generated_one_and_stays_when_the_chart_goes(helm: str) -> None:
    name = crd.crd()["metadata"]["name"]
    rendered = pick(render(helm), "CustomResourceDefinition", name)
    assert rendered["spec"] == crd.crd()["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in pick(render(helm, "crds.keep=false"), "CustomResourceDefinition", name)["metadata"]
    assert not [d for d in render(helm, "crds.install=false") if d["kind"] == "CustomResourceDefinition"]


def test_secrets_are_only_read_by_name_and_no_rule_has_a_wildcard(helm: str) -> None:
    rules = [rule for d in render(helm) if d["kind"] in ("Role", "ClusterRole") for rule in d["rules"]]
    assert rules
    for rule in rules:
        assert "*" not in json.dumps(rule)
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == ["get"]


def test_one_namespace_needs_roles_in_that_namespace_only(helm: str) -> None:
    documents = render(helm, "watchNamespace=agents")
    cluster_wide = [rule for d in documents if d["kind"] == "ClusterRole" for rule in d["rules"]]
    assert [rule["resources"] for rule in cluster_wide] == [["tokenreviews"]]
    assert pick(documents, "Role", "test-controller")["metadata"]["namespace"] == "agents"
    assert pick(documents, "RoleBinding", "test-gateway")["subjects"][0]["namespace"] == "system"


def test_gateway_and_controller_agree_on_address_audience_and_account(helm: str) -> None:
    documents = render(helm)
    gateway = pick(documents, "Deployment", "test-gateway")["spec"]["template"]["spec"]
    controller = pick(documents, "Deployment", "test-controller")["spec"]["template"]["spec"]
    env = {e["name"]: e.get("value") for e in gateway["containers"][0]["env"]}
    assert env["CONTROLLER_URL"] == "http://test-controller.system.svc"
    assert pick(documents, "Service", "test-controller")["spec"]["ports"][0]["port"] == 80
    accounts = {e["name"]: e.get("value") for e in controller["containers"][0]["env"]}
    assert accounts["GATEWAY_SERVICE_ACCOUNT"] == f"system:serviceaccount:system:{gateway['serviceAccountName']}"
    (token,) = [v for v in gateway["volumes"] if v["name"] == "controller-token"]
    assert token["projected"]["sources"][0]["serviceAccountToken"]["audience"] == names.DEMAND_AUDIENCE


def test_the_gateway_s_metrics_are_not_behind_its_service(helm: str) -> None:
    documents = render(helm)
    (container,) = pick(documents, "Deployment", "test-gateway")["spec"]["template"]["spec"]["containers"]
    assert {port["name"] for port in container["ports"]} == {"http", "probes"}
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("liveness", "readiness")} == {"probes"}
    assert [port["targetPort"] for port in pick(documents, "Service", "test-gateway")["spec"]["ports"]] == ["http"]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("gateway.replicas=2", "replicas"),
        ("images.pullPolicy=No", "pullPolicy"),
        ("gatway.replicas=1", "gatway"),
    ],
    ids=["two gateways", "an unknown pull policy", "a misspelt section"],
)
def test_wrong_values_are_refused_with_the_value_s_name(helm: str, setting: str, told: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, setting)
    assert told in refused.value.stderr
