"""What the chart declares for monitoring, against the API server with the CRDs of the Prometheus operator."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from devkit import golang
from devkit.cluster import Cluster
from tests.cluster.instance import kubectl, release

MODULE: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
CHECKSUM: Final = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
CRDS: Final = ("podmonitors", "prometheusrules")
KINDS: Final = {"PodMonitor": 3, "PrometheusRule": 1, "ConfigMap": 3}
ENABLED: Final = (
    "monitoring.enabled=true",
    "monitoring.namespace=monitoring",
    "monitoring.rules.enabled=true",
    "monitoring.dashboards.enabled=true",
)
ALL_VALUES: Final = (
    *ENABLED,
    "watchNamespace=agents",
    "monitoring.interval=5s",
    "monitoring.labels.release=prometheus",
    "monitoring.relabelings[0].targetLabel=cluster",
    "monitoring.relabelings[0].replacement=one",
    "monitoring.relabelings[0].action=Replace",
    "monitoring.rules.labels.role=alerts",
    "monitoring.rules.alertLabels.team=voice",
    "monitoring.rules.disabled={AvatarAgentAtMaxWorkers}",
    "monitoring.rules.slo.targetPercent=98",
    "monitoring.rules.slo.answerSeconds=2",
    "monitoring.dashboards.labels.team=voice",
    "monitoring.dashboards.folder=Voice",
)

pytestmark = pytest.mark.timeout(300)

Document = dict[str, Any]


@pytest.fixture(scope="module")
def operator_crds(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The CRDs of PodMonitor and PrometheusRule, until the last test of this module."""
    folder = module_folder(tmp_path_factory.mktemp("go")) / "example" / "prometheus-operator-crd"
    files = [f"--filename={folder}/monitoring.coreos.com_{plural}.yaml" for plural in CRDS]
    names = [f"crd/{plural}.monitoring.coreos.com" for plural in CRDS]
    kubectl(cluster, "apply", "--server-side", *files)
    kubectl(cluster, "wait", "--for=condition=Established", "--timeout=30s", *names)
    yield
    kubectl(cluster, "delete", *names)


def module_folder(folder: Path) -> Path:
    """Return the folder of the Prometheus operator's Go module; Go downloads it once."""
    argv = [str(golang.ensure()), "mod", "download", "-json", MODULE]
    environment = os.environ | {"GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    module = json.loads(done.stdout)
    assert module["Sum"] == CHECKSUM
    return Path(module["Dir"])


def monitoring(cluster: Cluster, *settings: str) -> list[Document]:
    """Return the PodMonitors, the PrometheusRule and the dashboards of the chart."""
    found = [document for document in release(cluster, *settings) if document["kind"] in KINDS]
    kinds = [document["kind"] for document in found]
    assert {kind: kinds.count(kind) for kind in KINDS} == KINDS
    return found


def dry_run(cluster: Cluster, documents: list[Document]) -> list[Document]:
    """Apply objects by a dry run on the server, which rejects unknown fields. Return what it would store."""
    options = ["--server-side", "--dry-run=server", "--validate=strict", "--output=json", "--filename=-"]
    answer = json.loads(kubectl(cluster, "apply", *options, stdin=yaml.safe_dump_all(documents)))
    items: list[Document] = answer.get("items", [answer])
    return items


@pytest.mark.parametrize("settings", [ENABLED, ALL_VALUES], ids=["default values", "all values"])
def test_api_server_accepts_monitoring(cluster: Cluster, operator_crds: None, settings: tuple[str, ...]) -> None:
    documents = monitoring(cluster, *settings)
    stored = dry_run(cluster, documents)
    assert [item["metadata"]["name"] for item in stored] == [document["metadata"]["name"] for document in documents]
    for document, item in zip(documents, stored, strict=True):
        assert contains(item, document), "the API server drops no field"
    assert not json.loads(kubectl(cluster, "get", "podmonitors", "--all-namespaces", "--output=json"))["items"]


def contains(stored: object, declared: object) -> bool:
    """Whether an object has all declared fields; the API server adds defaults to some."""
    if isinstance(declared, dict):
        return isinstance(stored, dict) and all(
            name in stored and contains(stored[name], value) for name, value in declared.items()
        )
    if isinstance(declared, list):
        return (
            isinstance(stored, list)
            and len(stored) == len(declared)
            and all(contains(one, other) for one, other in zip(stored, declared, strict=True))
        )
    return stored == declared


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0, "intervall"], "5s", "field not declared"),
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0, "interval"], "5 seconds", "Invalid value"),
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0, "relabelings", 0, "action"], "copy", "Unsupported value"),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "for"], "soon", "Invalid value"),
    ],
    ids=["unknown field", "no duration", "unknown action", "no duration of an alert"],
)
def test_api_server_rejects_wrong_fields(
    cluster: Cluster, operator_crds: None, kind: str, path: list[Any], value: str, message: str
) -> None:
    document = next(one for one in monitoring(cluster, *ENABLED) if one["kind"] == kind)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(subprocess.CalledProcessError) as rejected:
        dry_run(cluster, [document])
    assert message in rejected.value.stderr
