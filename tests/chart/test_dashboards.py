"""The dashboards that the chart ships: for Grafana's sidecar, and for the Grafana operator."""

import json
from typing import Any

import pytest

from dashboards.__main__ import rendered
from tests.chart.rendering import Documents, Renderer

ENABLED = "monitoring.dashboards.enabled=true"
OPERATOR = "monitoring.dashboards.grafanaOperator.enabled=true"


def of_kind(documents: Documents, kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def config_maps(documents: Documents) -> dict[str, dict[str, Any]]:
    """Return the dashboards' ConfigMaps by name; controller and gateway have none of their own."""
    return {name: found for name, found in of_kind(documents, "ConfigMap").items() if "dashboard" in name}


def test_dashboards_need_their_own_switch(render: Renderer) -> None:
    assert config_maps(render("monitoring.enabled=true", "monitoring.namespace=observe")) == {}
    assert of_kind(render(OPERATOR), "GrafanaDashboard") == {}
    assert set(config_maps(render(ENABLED))) == {
        "test-dashboard-calls",
        "test-dashboard-fleet",
        "test-dashboard-operator",
    }


def test_config_maps_hold_the_generated_dashboards(render: Renderer) -> None:
    shipped = {
        file: json.loads(text)
        for found in config_maps(render(ENABLED)).values()
        for file, text in found["data"].items()
    }
    assert shipped == {file: json.loads(text) for file, text in rendered().items()}


def test_values_set_runbooks_and_objective(render: Renderer) -> None:
    documents = render(
        '--set-json=monitoring.rules.slo={"answerSeconds": 1.5, "targetPercent": 99.9}',
        ENABLED,
        "monitoring.runbookBaseUrl=https://example.com/runbooks/",
    )
    found = {
        file: {one["name"]: one["query"] for one in json.loads(text)["templating"]["list"] if one["type"] == "constant"}
        for shipped in config_maps(documents).values()
        for file, text in shipped["data"].items()
    }
    runbooks = {"runbooks": "https://example.com/runbooks"}
    assert found == {
        "avatar-agent-calls.json": runbooks | {"answer_seconds": "1.5", "objective": "99.9"},
        "avatar-agent-fleet.json": runbooks,
        "avatar-agent-operator.json": runbooks,
    }


def test_sidecar_finds_label_and_folder(render: Renderer) -> None:
    for found in config_maps(render(ENABLED)).values():
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert found["metadata"]["annotations"] == {"grafana_folder": "AvatarAgent"}
    chosen = render(
        ENABLED,
        "monitoring.dashboards.labels.shown=yes",
        "monitoring.dashboards.folder=Voice",
        "monitoring.dashboards.folderAnnotation=example.com/folder",
    )
    for found in config_maps(chosen).values():
        assert found["metadata"]["labels"]["shown"] == "yes"
        assert found["metadata"]["annotations"] == {"example.com/folder": "Voice"}
    for found in config_maps(render(ENABLED, "monitoring.dashboards.folder=")).values():
        assert "annotations" not in found["metadata"]


@pytest.mark.parametrize("folder", ["AvatarAgent", ""], ids=["folder", "no folder"])
def test_grafana_operator_reads_the_config_maps(render: Renderer, folder: str) -> None:
    documents = render(ENABLED, OPERATOR, f"monitoring.dashboards.folder={folder}")
    maps = config_maps(documents)
    shown = of_kind(documents, "GrafanaDashboard")
    assert shown.keys() == maps.keys()
    for name, dashboard in shown.items():
        assert dashboard["apiVersion"] == "grafana.integreatly.org/v1beta1"
        spec = dashboard["spec"]
        assert spec["instanceSelector"] == {"matchLabels": {"dashboards": "grafana"}}
        assert spec.get("folder", "") == folder
        assert spec["configMapRef"]["name"] == name
        assert spec["configMapRef"]["key"] in maps[name]["data"]
