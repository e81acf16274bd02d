"""Reading the dashboards' JSON, and the variables in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from devkit.dashboards.panels import GENERATED, Window, load, substituted
from devkit.dashboards.prometheus import times_of
from devkit.errors import DevkitError

WINDOW = Window(start=1000.0, end=4600.0, step=15.0, scrape_seconds=5.0)


def test_window_has_times_and_the_rate_interval_of_grafana() -> None:
    times = times_of(WINDOW)
    assert (times[0], times[1], times[-1], len(times)) == (1000.0, 1015.0, 4600.0, 241)
    assert WINDOW.rate_seconds == 20
    assert Window(0, 60, 1, 15).rate_seconds == 60


@pytest.mark.parametrize("path", sorted(GENERATED.glob("*.json")), ids=lambda path: path.stem)
def test_every_committed_dashboard_can_be_drawn(path: Path) -> None:
    dashboard = load(path, WINDOW)
    document = json.loads(path.read_text())
    assert [panel.kind for panel in dashboard.panels] == [panel["type"] for panel in document["panels"]]
    shown = [panel for panel in dashboard.panels if panel.kind != "row"]
    assert all(panel.queries for panel in shown)
    assert not [query for panel in shown for query in panel.queries if "$" in query.expression]
    assert not [panel.title for panel in shown if "$" in panel.title]
    assert any(panel.field.get("bars") for panel in shown)


def test_variables_get_constants_all_agents_and_the_window(tmp_path: Path) -> None:
    path = written(tmp_path, expr='x{agent=~"$agent"}[$__rate_interval] y[$__range] z[$__interval] < ${limit}')
    (panel,) = load(path, WINDOW).panels
    assert panel.queries[0].expression == 'x{agent=~".*"}[20s] y[3600s] z[15s] < 3'
    assert panel.title == "Within 3 s"


def test_unknown_variable_is_an_error() -> None:
    with pytest.raises(DevkitError, match="the variable other has no value"):
        substituted("x > $other", {"agent": ".*"})


def test_unknown_kind_of_panel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DevkitError, match="of the kind piechart"):
        load(written(tmp_path, type="piechart"), WINDOW)


def written(folder: Path, *, expr: str = "up", **panel: Any) -> Path:
    path = folder / "dashboard.json"
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        {"name": "agent", "type": "query", "allValue": ".*"},
        {"name": "limit", "type": "constant", "query": "3"},
    ]
    described = {"type": "stat", "title": "Within $limit s", "gridPos": {}, "targets": [{"expr": expr}]} | panel
    document = {"title": "t", "description": "d", "templating": {"list": variables}, "panels": [described]}
    path.write_text(json.dumps(document))
    return path
