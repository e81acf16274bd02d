"""What the chart declares for monitoring, against the API server with the CRDs of the operators that read it."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from devkit import golang
from devkit.cluster import Cluster
from tests.cluster.instance import kubectl, release


@dataclass(frozen=True)
class Module:
    """CRDs of an operator, in its Go module."""

    version: str
    """The module's path and version."""
    checksum: str
    folder: str
    """Folder of the CRDs."""
    group: str
    plurals: tuple[str, ...]


MODULES: Final = (
    Module(
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        "example/prometheus-operator-crd",
        "monitoring.coreos.com",
        ("podmonitors", "prometheusrules"),
    ),
    Module(
        "github.com/grafana/grafana-operator/v5@v5.18.0",
        "h1:ei7N2VfjsRjY8iprenH1IDV783WeV7CP5VNp//sB4hI=",
        "config/crd/bases",
        "grafana.integreatly.org",
        ("grafanadashboards",),
    ),
)
KINDS: Final = {"PodMonitor": 3, "PrometheusRule": 1, "ConfigMap": 3, "GrafanaDashboard": 3}
ENABLED: Final = (
    "monitoring.enabled=true",
    "monitoring.namespace=monitoring",
    "monitoring.rules.enabled=true",
    "monitoring.dashboards.enabled=true",
    "monitoring.dashboards.grafanaOperator.enabled=true",
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
    "monitoring.dashboards.grafanaOperator.instanceSelector.matchLabels.team=voice",
)

pytestmark = pytest.mark.timeout(300)

Document = dict[str, Any]


@pytest.fixture(scope="module")
def operator_crds(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The CRDs of PodMonitor, PrometheusRule and GrafanaDashboard, until the last test of this module."""
    files, names = [], []
    for module in MODULES:
        folder = module_folder(module, tmp_path_factory.mktemp("go")) / module.folder
        files += [f"--filename={folder}/{module.group}_{plural}.yaml" for plural in module.plurals]
        names += [f"crd/{plural}.{module.group}" for plural in module.plurals]
    kubectl(cluster, "apply", "--server-side", *files)
    kubectl(cluster, "wait", "--for=condition=Established", "--timeout=30s", *names)
    yield
    kubectl(cluster, "delete", *names)


def module_folder(module: Module, folder: Path) -> Path:
    """Return the folder of a Go module; Go downloads it once."""
    argv = [str(golang.ensure()), "mod", "download", "-json", module.version]
    environment = os.environ | {"GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    downloaded = json.loads(done.stdout)
    assert downloaded["Sum"] == module.checksum
    return Path(downloaded["Dir"])


def monitoring(cluster: Cluster, *settings: str) -> list[Document]:
    """Return what the chart declares for monitoring: its objects of all KINDS."""
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
        ("GrafanaDashboard", ["spec", "folderName"], "Voice", "field not declared"),
        ("GrafanaDashboard", ["spec", "resyncPeriod"], "soon", "Invalid value"),
    ],
    ids=[
        "unknown field",
        "no duration",
        "unknown action",
        "no duration of an alert",
        "unknown field of a dashboard",
        "no duration of a dashboard",
    ],
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
