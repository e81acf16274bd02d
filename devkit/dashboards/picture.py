"""Turns a dashboard and Prometheus' answers into a plain document that the page draws."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devkit.dashboards.panels import Dashboard, Panel, Window
from devkit.dashboards.prometheus import Line, Prometheus, Sample, times_of

NOTE: Final = (
    "Drawn with uPlot from the dashboard's JSON and the answers of a Prometheus. This is not Grafana, which shows the "
    "same panels in its own style. Times are in UTC."
)

Document = dict[str, Any]

_SI: Final = ((1e9, " G"), (1e6, " M"), (1e3, " K"), (1, ""))
_BINARY: Final = ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B"))
_TIME: Final = ((86400, " d"), (3600, " h"), (120, " min"), (1, " s"), (0.001, " ms"))
_DIVISORS: Final = {" min": 60.0}
"""Where the divisor is not the smallest value of the scale: 90 s reads better than 1.5 min."""


@dataclass(frozen=True)
class Scale:
    """How a value is written: divided, with a suffix."""

    divisor: float
    suffix: str


def scale(unit: str, largest: float) -> Scale:
    """Return the scale of a unit of Grafana in which values up to the largest are short."""
    if unit.startswith("suffix:"):
        plain = scale("short", largest)
        return Scale(plain.divisor, plain.suffix + unit.removeprefix("suffix:"))
    if unit == "percentunit":
        return Scale(0.01, " %")
    steps = {"s": _TIME, "bytes": _BINARY}.get(unit, _SI)
    for least, suffix in steps:
        if abs(largest) >= least:
            return Scale(_DIVISORS.get(suffix, float(least)), suffix)
    return Scale(1, {"s": " s", "bytes": " B"}.get(unit, ""))


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value with its unit, with at most three digits or as many decimals as set."""
    if math.isinf(value):
        return "∞"
    used = scale(unit, value)
    number = value / used.divisor
    if decimals is None:
        decimals = 0 if number == round(number) else max(0, 2 - int(math.log10(max(abs(number), 1))))
        text = f"{number:.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{number:.{decimals}f}"
    return text + used.suffix


def compose(dashboard: Dashboard, prometheus: Prometheus, window: Window) -> Document:
    """Run all queries of a dashboard, and return its picture."""
    return {
        "title": dashboard.title,
        "description": dashboard.description,
        "note": NOTE,
        "times": times_of(window),
        "panels": [
            {"title": panel.title, **panel.place, **_content(panel, prometheus, window)} for panel in dashboard.panels
        ],
    }


def _content(panel: Panel, prometheus: Prometheus, window: Window) -> Document:
    if panel.kind == "row":
        return {"kind": "row"}
    if panel.kind == "stat":
        return figure(panel, prometheus.now(panel.queries[0].expression, window))
    if panel.kind == "table":
        return rows(panel, prometheus.now(panel.queries[0].expression, window))
    answers = [(query.legend, prometheus.over_time(query.expression, window)) for query in panel.queries]
    if panel.kind == "heatmap":
        return heat(answers[0][1])
    return graph(panel, answers)


def figure(panel: Panel, samples: Sequence[Sample]) -> Document:
    """Return one big figure: a word where a mapping has one, else the value with its unit."""
    if not samples:
        return {"kind": "stat", "text": panel.field.get("noValue", "no data"), "colour": "none"}
    value = samples[0].value
    for mapping in panel.field.get("mappings", []):
        shown = mapping["options"].get(f"{value:g}")
        if shown is not None:
            return {"kind": "stat", "text": shown["text"], "colour": shown["color"]}
    text = written(value, panel.field["unit"], panel.field.get("decimals"))
    return {"kind": "stat", "text": text, "colour": _colour(panel, value)}


def _colour(panel: Panel, value: float) -> str:
    colour = "none"
    for step in _steps(panel):
        if step.get("value") is None or value >= step["value"]:
            colour = step["color"]
    return colour


def _steps(panel: Panel) -> Sequence[Mapping[str, Any]]:
    steps: Sequence[Mapping[str, Any]] = panel.field.get("thresholds", {}).get("steps", [])
    return steps


def graph(panel: Panel, answers: Sequence[tuple[str, Sequence[Line]]]) -> Document:
    """Return lines, or bars that stand on each other: then each series includes those before it.

    The tallest bars come first. So the legend names those that can be seen, if it has no space for all.
    """
    series = [
        (legend_of(line.labels, legend), list(line.values))
        for legend, lines in answers
        for line in sorted(lines, key=lambda line: sorted(line.labels.items()))
    ]
    if panel.field.get("bars"):
        series.sort(key=lambda one: -max((value for value in one[1] if value is not None), default=0.0))
    largest = max((value for _, values in series for value in values if value is not None), default=0.0)
    unit = panel.field["unit"]
    used = scale(unit, largest)
    shown: list[Document] = [
        {"label": label, "values": [_scaled(value, used) for value in values], "last": _last(values, unit)}
        for label, values in series
    ]
    if panel.field.get("bars"):
        for lower, upper in itertools.pairwise(shown):
            pairs = zip(lower["values"], upper["values"], strict=True)
            upper["values"] = [None if one is other is None else (one or 0) + (other or 0) for one, other in pairs]
    return {
        "kind": "graph",
        "bars": bool(panel.field.get("bars")),
        "suffix": used.suffix,
        "limits": [
            {"value": _scaled(step["value"], used), "colour": step["color"]}
            for step in _steps(panel)
            if step.get("value") is not None
        ],
        "series": shown,
    }


def _scaled(value: float | None, used: Scale) -> float | None:
    return None if value is None else value / used.divisor


def _last(values: Sequence[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    return written(known[-1], unit) if known else ""


def legend_of(labels: Mapping[str, str], legend: str) -> str:
    """Return the legend of a series, as Grafana does: `{{name}}` is the value of a label."""
    if not legend:
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items())) or "value"
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), legend)


def heat(lines: Sequence[Line]) -> Document:
    """Return a histogram over time: how much each bucket, without those below, grew. Empty buckets at the top go."""
    buckets = sorted(lines, key=lambda line: float(line.labels["le"]))
    below: Sequence[float | None] = [0.0] * (len(buckets[0].values) if buckets else 0)
    cells: list[tuple[str, list[float]]] = []
    for bucket in buckets:
        pairs = zip(bucket.values, below, strict=True)
        cells.append((bucket.labels["le"], [max((value or 0) - (less or 0), 0) for value, less in pairs]))
        below = bucket.values
    while cells and not any(cells[-1][1]):
        cells.pop()
    return {
        "kind": "heat",
        "labels": [written(float(bound), "s") for bound, _ in cells],
        "cells": [values for _, values in cells],
    }


def rows(panel: Panel, samples: Sequence[Sample]) -> Document:
    """Return a table with the columns that Grafana's transformation `organize` leaves."""
    (options,) = [one["options"] for one in panel.transformations if one["id"] == "organize"]
    order: Mapping[str, int] = options["indexByName"]
    columns = [name for name in sorted(order, key=lambda name: order[name]) if not options["excludeByName"].get(name)]
    found = [
        [sample.labels.get(name, "") if name != "Value" else written(sample.value, "short") for name in columns]
        for sample in samples
    ]
    return {
        "kind": "table",
        "columns": [options["renameByName"].get(name, name) for name in columns],
        "rows": sorted(found),
        "empty": panel.field.get("noValue", "no data"),
    }
