"""What a picture shows for a panel and the answers of Prometheus."""

import math
from typing import Any

import pytest

from devkit.dashboards import picture
from devkit.dashboards.panels import Panel, Query
from devkit.dashboards.prometheus import Line, Sample

PLACE = {"x": 0, "y": 0, "w": 4, "h": 4}
COLOURS = {"steps": [{"value": None, "color": "green"}, {"value": 1, "color": "yellow"}, {"value": 5, "color": "red"}]}


def panel(kind: str, *, unit: str = "short", organize: dict[str, Any] | None = None, **field: Any) -> Panel:
    transformations = [{"id": "organize", "options": organize}] if organize else []
    return Panel(kind, "title", PLACE, [Query("up", "")], {"unit": unit} | field, transformations)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0, "short", None, "0"),
        (7, "short", None, "7"),
        (1234, "short", None, "1.23 K"),
        (0.5, "s", None, "500 ms"),
        (2.25, "s", None, "2.25 s"),
        (90, "s", None, "90 s"),
        (180, "s", None, "3 min"),
        (7200, "s", None, "2 h"),
        (0.971, "percentunit", 1, "97.1 %"),
        (-1.85, "percentunit", 0, "-185 %"),
        (88 * 2**20, "bytes", None, "88 MiB"),
        (2.5, "suffix:/min", None, "2.5/min"),
        (12500, "suffix:/min", None, "12.5 K/min"),
        (math.inf, "s", None, "∞"),
    ],
)
def test_values_have_units_and_few_digits(value: float, unit: str, decimals: int | None, text: str) -> None:
    assert picture.written(value, unit, decimals) == text


@pytest.mark.parametrize(
    ("value", "colour"), [(0, "green"), (0.99, "green"), (1, "yellow"), (4, "yellow"), (5, "red"), (100, "red")]
)
def test_figure_has_the_colour_of_its_threshold(value: float, colour: str) -> None:
    shown = picture.figure(panel("stat", thresholds=COLOURS), [Sample({}, value)])
    assert shown["colour"] == colour


def test_figure_shows_a_word_for_a_mapped_value() -> None:
    mappings = [{"type": "value", "options": {"0": {"text": "Unreachable", "color": "red"}}}]
    mapped = panel("stat", thresholds=COLOURS, mappings=mappings)
    assert picture.figure(mapped, [Sample({}, 0)]) == {"kind": "stat", "text": "Unreachable", "colour": "red"}
    assert picture.figure(mapped, [Sample({}, 1)])["text"] == "1"


def test_figure_without_series_is_not_green() -> None:
    shown = picture.figure(panel("stat", thresholds=COLOURS, noValue="no agents"), [])
    assert shown == {"kind": "stat", "text": "no agents", "colour": "none"}


def test_graph_names_series_and_scales_them_with_the_limits() -> None:
    lines = [Line({"pod": "b"}, [0.1, 0.2]), Line({"pod": "a"}, [0.4, None])]
    thresholds = {"steps": [{"value": None, "color": "green"}, {"value": 0.3, "color": "red"}]}
    shown = picture.graph(panel("timeseries", unit="s", thresholds=thresholds), [("pod {{pod}}", lines)])
    assert shown["suffix"] == " ms"
    assert [one["label"] for one in shown["series"]] == ["pod a", "pod b"]
    assert [one["last"] for one in shown["series"]] == ["400 ms", "200 ms"]
    assert shown["series"][0]["values"] == [400, None]
    assert shown["series"][1]["values"] == [100, 200]
    assert shown["limits"] == [{"value": 300, "colour": "red"}]


def test_bars_stand_on_each_other_with_the_tallest_first() -> None:
    lines = [Line({"reason": "a"}, [1, None, 2, None]), Line({"reason": "b"}, [3, 4, None, None])]
    shown = picture.graph(panel("timeseries", bars=True), [("{{reason}}", lines)])
    assert [one["label"] for one in shown["series"]] == ["b", "a"]
    assert [one["values"] for one in shown["series"]] == [[3, 4, None, None], [4, 4, 2, None]]
    assert [one["last"] for one in shown["series"]] == ["4", "2"], "the legend shows each value, not the sum"


@pytest.mark.parametrize(
    ("labels", "legend", "text"),
    [
        ({"a": "1"}, "x", "x"),
        ({"a": "1", "b": "2"}, "{{a}}/{{ b }}", "1/2"),
        ({}, "{{a}}", ""),
        ({"b": "2", "a": "1"}, "", "a=1, b=2"),
        ({}, "", "value"),
    ],
    ids=["constant", "two labels", "missing label", "all labels", "no labels"],
)
def test_legend_follows_grafana(labels: dict[str, str], legend: str, text: str) -> None:
    assert picture.legend_of(labels, legend) == text


def test_heat_map_shows_each_bucket_alone() -> None:
    lines = [
        Line({"le": "+Inf"}, [9, 4]),
        Line({"le": "0.5"}, [2, None]),
        Line({"le": "10.0"}, [9, 4]),
        Line({"le": "1.0"}, [5, 4]),
        Line({"le": "30.0"}, [9, 4]),
    ]
    shown = picture.heat(lines)
    assert shown["labels"] == ["500 ms", "1 s", "10 s"], "in ascending order, without empty buckets at the top"
    assert shown["cells"] == [[2, 0], [3, 4], [4, 0]]


def test_heat_map_of_no_series_is_empty() -> None:
    assert picture.heat([])["cells"] == []


def test_table_has_the_columns_that_grafana_leaves() -> None:
    organize = {
        "excludeByName": {"Time": True},
        "indexByName": {"version": 1, "component": 0, "Value": 2},
        "renameByName": {"Value": "processes"},
    }
    samples = [Sample({"component": "worker", "version": "2"}, 4), Sample({"component": "gateway", "version": "2"}, 1)]
    shown = picture.rows(panel("table", organize=organize, noValue="none"), samples)
    assert shown["columns"] == ["component", "version", "processes"]
    assert shown["rows"] == [["gateway", "2", "1"], ["worker", "2", "4"]]
    organize["excludeByName"] = {"Value": True}
    hidden = picture.rows(panel("table", organize=organize, noValue="none"), [])
    assert (hidden["columns"], hidden["rows"], hidden["empty"]) == (["component", "version"], [], "none")
