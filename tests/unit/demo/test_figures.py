"""Figures after a call: read from the dashboard's own queries, once Prometheus has counted the call."""

import time

import pytest

from devkit.dashboards.panels import Window, load
from devkit.dashboards.prometheus import Prometheus, Sample
from devkit.demo import figures
from devkit.demo.figures import Figure
from devkit.errors import DevkitError

SHOWN = figures.window(1000.0, 1045.0)


class FakePrometheus(Prometheus):
    """Answers each query of the dashboard with the value of its panel; `late` answers are empty."""

    def __init__(self, values: dict[str, list[Sample]], late: int = 0) -> None:
        super().__init__("http://prometheus.test")
        self.values = values
        self.late = late
        self.windows: list[Window] = []

    def now(self, expression: str, window: Window) -> list[Sample]:
        self.windows.append(window)
        if len(set(self.windows)) <= self.late:
            return []
        panels = load(figures.DASHBOARD, window).panels
        titles = {query.expression: panel.title for panel in panels for query in panel.queries}
        return self.values.get(titles[expression], [])


def one(value: float) -> list[Sample]:
    return [Sample({}, value)]


VALUES = {
    "Answered within 3 s": one(1.0),
    "Calls failed": one(0.0),
    "Request to first sound": one(0.71),
    "Request to agent joined": one(0.45),
    "Calls ended, by reason": [Sample({"reason": "CallerLeft"}, 1.06), Sample({"reason": "HungUp"}, 0.0)],
}


def test_window_begins_before_the_call_and_rates_cover_it() -> None:
    assert (SHOWN.start, SHOWN.end) == (985.0, 1045.0)
    assert SHOWN.rate_seconds == 60
    assert figures.window(1000.0, 1000.0).rate_seconds == 20, "at least four scrapes, as Grafana"


def test_figures_are_those_of_the_dashboard() -> None:
    prometheus = FakePrometheus(VALUES)
    assert figures.read(prometheus, SHOWN) == [
        Figure("Answered within 3 s", "100.0 %"),
        Figure("Error budget left", "no calls"),
        Figure("Calls failed", "0"),
        Figure("Calls now", "no agents"),
        Figure("Callers waiting", "no agents"),
        Figure("Reply time, p95", "no turns"),
        Figure("Request to first sound, p95", "710 ms"),
        Figure("Request to agent joined, p95", "450 ms"),
        Figure("Calls ended, by reason", "CallerLeft 1"),
    ]
    assert set(prometheus.windows) == {SHOWN}


def test_figures_before_the_first_call_are_none_yet() -> None:
    found = figures.read(FakePrometheus({}), SHOWN)
    assert [figure.text for figure in found[-3:]] == [figures.NONE_YET] * 3


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only `time.sleep` moves. Returns the waits."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    monkeypatch.setattr(time, "time", lambda: 1030.0 + sum(slept))
    return slept


def test_figures_wait_until_the_call_is_counted(waits: list[float]) -> None:
    found = figures.read_after_call(FakePrometheus(VALUES, late=3), 1000.0)
    assert found[-1] == Figure("Calls ended, by reason", "CallerLeft 1")
    assert len(waits) == 3


def test_figures_are_shown_after_a_minute_without_the_call(waits: list[float]) -> None:
    found = figures.read_after_call(FakePrometheus({}), 1000.0)
    assert found[-1].text == figures.NONE_YET
    assert 60 < sum(waits) < 63


def test_absent_prometheus_is_not_waited_for(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[Sample]:
        raise DevkitError("no Prometheus answers at http://prometheus.test: refused")

    prometheus = FakePrometheus({})
    monkeypatch.setattr(prometheus, "now", refuse)
    with pytest.raises(DevkitError, match="no Prometheus answers"):
        figures.read_after_call(prometheus, 1000.0)
    assert waits == []
