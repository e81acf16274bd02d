"""Reads a dashboard's JSON as far as a picture needs it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devkit.errors import DevkitError
from devkit.paths import REPOSITORY

GENERATED: Final = REPOSITORY / "dashboards" / "generated"
KINDS: Final = ("row", "stat", "timeseries", "heatmap", "table")


@dataclass(frozen=True)
class Window:
    """The time that a picture shows, in seconds since 1970, and how often Prometheus scrapes."""

    start: float
    end: float
    step: float
    """Between two points of a graph."""
    scrape_seconds: float

    @property
    def rate_seconds(self) -> float:
        """Return what Grafana's `$__rate_interval` is: at least four scrapes."""
        return max(self.step + self.scrape_seconds, 4 * self.scrape_seconds)


@dataclass(frozen=True)
class Query:
    expression: str
    legend: str
    """Grafana's format, such as `{{pod}}`; empty: all labels."""


@dataclass(frozen=True)
class Panel:
    """One panel, or the heading of a row."""

    kind: str
    title: str
    place: Mapping[str, int]
    """`x`, `y`, `w` and `h` in the grid of 24 columns."""
    queries: Sequence[Query]
    field: Mapping[str, Any]
    """Defaults of the field: unit, decimals, thresholds, mappings, text for no value."""
    transformations: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Dashboard:
    title: str
    description: str
    panels: Sequence[Panel]


def load(path: Path, window: Window) -> Dashboard:
    """Read a dashboard for all agents, with its variables replaced. Raises DevkitError for an unknown kind of panel."""
    document = json.loads(path.read_text())
    values = _values(document["templating"]["list"], window)
    panels = [_panel(panel, values) for panel in document["panels"]]
    return Dashboard(document["title"], document["description"], panels)


def _values(variables: Sequence[Mapping[str, Any]], window: Window) -> dict[str, str]:
    constants = {one["name"]: one["query"] for one in variables if one["type"] == "constant"}
    chosen = {one["name"]: one["allValue"] for one in variables if one["type"] == "query"}
    times = {
        "__rate_interval": f"{window.rate_seconds:.0f}s",
        "__interval": f"{window.step:.0f}s",
        "__range": f"{window.end - window.start:.0f}s",
    }
    return constants | chosen | times


def _panel(panel: Mapping[str, Any], values: Mapping[str, str]) -> Panel:
    if panel["type"] not in KINDS:
        raise DevkitError(f"the panel {panel['title']!r} is of the kind {panel['type']}, which no picture shows")
    queries = [
        Query(substituted(target["expr"], values), target.get("legendFormat", ""))
        for target in panel.get("targets", [])
    ]
    return Panel(
        panel["type"],
        substituted(panel["title"], values),
        panel["gridPos"],
        queries,
        panel.get("fieldConfig", {}).get("defaults", {})
        | {"bars": panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {}).get("drawStyle") == "bars"},
        panel.get("transformations", []),
    )


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Return a text with each `$name` and `${name}` replaced. Raises DevkitError for an unknown variable."""

    def replace(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in values:
            raise DevkitError(f"the variable {name} has no value in {text!r}")
        return values[name]

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", replace, text)
