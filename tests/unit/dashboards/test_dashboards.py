"""The generated dashboards: queries, descriptions, links, the grid, and that they are up to date."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client import REGISTRY, CollectorRegistry

from controller.metrics import Metrics as ControllerMetrics
from dashboards import __main__ as generator
from dashboards.panels import GRID_COLUMNS, Text
from devkit.paths import REPOSITORY
from gateway.metrics import Metrics as GatewayMetrics
from process.metrics import SampledGauge
from worker.call import metrics as call_metrics
from worker.server import metrics as worker_metrics

DASHBOARDS: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in generator.rendered().items()}
UIDS = {"avatar-agent-fleet", "avatar-agent-calls", "avatar-agent-operator"}
"""Addresses of the dashboards in Grafana: bookmarks break when one changes."""
ALERTS = {path.stem for path in (REPOSITORY / "docs/runbooks").glob("AvatarAgent*.md")}
"""Every alert has a runbook with its name."""
TARGET_LABELS = {"job", "instance", "namespace", "pod", "container", "endpoint"}
"""Labels that Prometheus adds to each series of a scraped pod."""
AGENT_LABELS = {"agent_namespace", "agent"}
"""Labels that the PodMonitor adds to each series of a worker."""
OF_PROMETHEUS = {"up", "scrape_duration_seconds"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",), "info": ("_info",)}


def registries() -> Iterator[tuple[CollectorRegistry, set[str]]]:
    """Yield the registries of the three processes, each with the labels that scraping adds to its series."""
    controller = ControllerMetrics()
    controller.start_leading(lambda: 0, list, list)
    yield controller.registry, set()
    yield GatewayMetrics().registry, set()
    yield worker_metrics._registry, AGENT_LABELS
    assert call_metrics.STARTED is not None, "call processes register in the default registry"
    yield REGISTRY, AGENT_LABELS


def exported() -> dict[str, set[str]]:
    """Return the labels of each exported series by its name."""
    found: dict[str, set[str]] = {name: TARGET_LABELS | AGENT_LABELS for name in OF_PROMETHEUS}
    for registry, added in registries():
        for collector in list(registry._collector_to_names):
            own = collector.labels if isinstance(collector, SampledGauge) else getattr(collector, "_labelnames", ())
            for family in collector.collect():
                labels = TARGET_LABELS | set(own) | added | ({"version"} if family.type == "info" else set())
                for suffix in SUFFIXES[family.type]:
                    name = family.name + suffix
                    found[name] = found.get(name, set()) | labels | ({"le"} if suffix == "_bucket" else set())
    return found


EXPORTED = exported()


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each panel with its dashboard, without the headings of rows."""
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield name, panel


PANELS = [pytest.param(panel, id=f"{name.removesuffix('.json')}: {panel['title']}") for name, panel in panels()]


def parsed(expression: str) -> promql_parser.Expr:
    """Parse a query as Grafana sends it, with all variables replaced."""
    text = re.sub(r"\[\$__\w+\]", "[5m]", expression)
    text = re.sub(r"\$(agent_namespace|agent)\b", ".*", text)
    text = re.sub(r"\$answer_seconds\b", "3", re.sub(r"\$objective\b", "99", text))
    assert "$" not in text, text
    return promql_parser.parse(text)


def selectors(node: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    """Yield every selector of series in a parsed query."""
    found: list[promql_parser.VectorSelector] = []

    def visit(one: promql_parser.Expr) -> bool:
        if isinstance(one, promql_parser.VectorSelector):
            found.append(one)
        elif isinstance(one, promql_parser.MatrixSelector):
            found.append(one.vector_selector)
        return True

    promql_parser.walk(node, visit)
    yield from {id(one): one for one in found}.values()


def grouped(node: promql_parser.Expr) -> set[str]:
    """Return the labels that the aggregations of a query keep."""
    labels: set[str] = set()

    def visit(one: promql_parser.Expr) -> bool:
        if isinstance(one, promql_parser.AggregateExpr) and one.modifier is not None:
            labels.update(one.modifier.labels)
        return True

    promql_parser.walk(node, visit)
    return labels


def queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


@pytest.mark.parametrize("panel", PANELS)
def test_each_query_names_exported_series_and_labels(panel: dict[str, Any]) -> None:
    for expression in queries(panel):
        node = parsed(expression)
        known: set[str] = set()
        for selector in selectors(node):
            assert selector.name in EXPORTED, f"{selector.name} is not exported"
            known |= EXPORTED[selector.name]
            assert {matcher.name for matcher in selector.matchers.matchers} <= EXPORTED[selector.name]
        assert known, f"the query selects no series: {expression}"
        assert grouped(node) <= known


@pytest.mark.parametrize("panel", PANELS)
def test_each_legend_uses_labels_of_the_result(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        used = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
        node = parsed(target["expr"])
        kept = grouped(node)
        every = set().union(*(EXPORTED[selector.name or ""] for selector in selectors(node)))
        assert used <= (kept or every)


@pytest.mark.parametrize("panel", PANELS)
def test_each_panel_has_unit_description_and_runbook(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    links = panel.get("links", [])
    if "\n\nNo runbook: " in panel["description"]:
        assert links == []
        return
    (link,) = links
    found = re.fullmatch(r"\$\{runbooks\}/(\w+)\.md", link["url"])
    assert found is not None
    assert found[1] in ALERTS
    assert link["title"] == f"Runbook: {found[1]}"


@pytest.mark.parametrize("panel", PANELS)
def test_descriptions_are_short_sentences(panel: dict[str, Any]) -> None:
    sentences = re.split(r"(?<=[.!?])\s+", panel["description"])
    assert all(sentence.endswith(".") for sentence in sentences)
    assert max(len(sentence.split()) for sentence in sentences) <= 30


def test_every_alert_is_linked_from_a_panel() -> None:
    linked = {link["title"].removeprefix("Runbook: ") for _, panel in panels() for link in panel.get("links", [])}
    assert linked == ALERTS


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    taken = [panel["gridPos"] for panel in DASHBOARDS[name]["panels"]]
    for place in taken:
        assert place["x"] + place["w"] <= GRID_COLUMNS
    for one, other in itertools.combinations(taken, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_first_row_is_full_of_coloured_figures(name: str) -> None:
    first = [panel for panel in DASHBOARDS[name]["panels"] if panel["gridPos"]["y"] == 0]
    assert {panel["type"] for panel in first} == {"stat"}
    assert sum(panel["gridPos"]["w"] for panel in first) == GRID_COLUMNS
    assert {panel["options"]["colorMode"] for panel in first} == {"background"}
    assert all(panel["fieldConfig"]["defaults"]["noValue"] for panel in first)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_ids_and_titles_of_their_own(name: str) -> None:
    found = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in found}) == len({panel["title"] for panel in found}) == len(found)


def test_addresses_stay_the_same() -> None:
    assert {dashboard["uid"] for dashboard in DASHBOARDS.values()} == UIDS
    assert set(DASHBOARDS) == {f"{uid}.json" for uid in UIDS}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_viewers_choose_prometheus_namespace_and_agent(name: str) -> None:
    variables = {variable["name"]: variable for variable in DASHBOARDS[name]["templating"]["list"]}
    assert list(variables)[:3] == ["datasource", "agent_namespace", "agent"]
    for chosen in ("agent_namespace", "agent"):
        assert (variables[chosen]["multi"], variables[chosen]["includeAll"]) == (True, True)
        assert variables[chosen]["allValue"] == ".*"
        assert any(f"${chosen}" in query for of, panel in panels() if of == name for query in queries(panel))
    assert variables["runbooks"]["type"] == "constant"


@pytest.mark.parametrize("seed", ["1", "2"])
def test_rendering_does_not_depend_on_hash_order(seed: str) -> None:
    argv = [sys.executable, "-m", "dashboards", "--check"]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    done = subprocess.run(
        argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_committed_files_are_up_to_date() -> None:
    assert generator.main(["--check"]) == 0


def test_check_names_stale_missing_and_extra_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "_ROOT", tmp_path)
    monkeypatch.setattr(generator, "FOLDERS", [tmp_path / "one"])
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    first, second, _ = sorted((tmp_path / "one").iterdir())
    first.write_text("{}")
    second.unlink()
    (tmp_path / "one/old.json").write_text("{}")
    assert generator.main(["--check"]) == 1
    named = [line.split(" is stale")[0] for line in capsys.readouterr().err.splitlines()]
    assert sorted(named) == sorted([f"one/{first.name}", f"one/{second.name}", "one/old.json"])
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0


def test_text_needs_a_runbook_or_a_reason() -> None:
    with pytest.raises(ValueError, match="either runbook or no_runbook"):
        Text("Normal.")
    with pytest.raises(ValueError, match="either runbook or no_runbook"):
        Text("Normal.", "NotReady", "reason.")


def test_helm_reads_the_same_files() -> None:
    assert [folder.relative_to(REPOSITORY).as_posix() for folder in generator.FOLDERS] == [
        "dashboards/generated",
        "charts/avatar-agent/files/dashboards",
    ]
