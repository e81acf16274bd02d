"""Main figures of the dashboard Calls after a call, from the same JSON and queries as its panels."""

import time
from dataclasses import dataclass
from typing import Final

from devkit.dashboards.panels import GENERATED, Panel, Query, Window, load
from devkit.dashboards.picture import figure, written
from devkit.dashboards.prometheus import Prometheus

SCRAPE_SECONDS: Final = 5.0
"""How often the demo's Prometheus scrapes. Shorter than the chart's default, so that the figures come soon."""
DASHBOARD: Final = GENERATED / "avatar-agent-calls.json"
LATENCIES: Final = ("Request to first sound", "Request to agent joined")
REASONS: Final = "Calls ended, by reason"
NONE_YET: Final = "none yet"
_QUANTILE: Final = "p95"
_COUNTED_SECONDS: Final = 60.0
"""Longer than a worker waits for a caller to rejoin, and then the gateway for the end of the room."""
_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Figure:
    """One figure: the panel's title, and the value as the dashboard shows it."""

    title: str
    text: str


def window(since: float, now: float) -> Window:
    """Return the time from a few scrapes before `since` until `now`; rates are over all of it."""
    start = since - 3 * SCRAPE_SECONDS
    return Window(start, now, step=max(now - start - SCRAPE_SECONDS, SCRAPE_SECONDS), scrape_seconds=SCRAPE_SECONDS)


def read(prometheus: Prometheus, shown: Window) -> list[Figure]:
    """Return the panels that have one figure, then join and answer time, and the reasons why calls ended."""
    panels = load(DASHBOARD, shown).panels
    figures = [
        Figure(panel.title, str(figure(panel, prometheus.now(panel.queries[0].expression, shown))["text"]))
        for panel in panels
        if panel.kind == "stat"
    ]
    by_title = {panel.title: panel for panel in panels if panel.kind != "stat"}
    for title in LATENCIES:
        panel = by_title[title]
        samples = prometheus.now(_query(panel, _QUANTILE).expression, shown)
        text = written(samples[0].value, panel.field["unit"]) if samples else NONE_YET
        figures.append(Figure(f"{title}, {_QUANTILE}", text))
    # The graph shows calls per minute.
    rates = prometheus.now(by_title[REASONS].queries[0].expression, shown)
    counts = {rate.labels["reason"]: round(rate.value * shown.rate_seconds / 60) for rate in rates}
    ended = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()) if count)
    return [*figures, Figure(REASONS, ended or NONE_YET)]


def read_after_call(prometheus: Prometheus, called: float, seconds: float = _COUNTED_SECONDS) -> list[Figure]:
    """Return the figures once they contain a call that began at `called` (Unix time) and ended, or after a minute."""
    deadline = time.monotonic() + seconds
    while True:
        figures = read(prometheus, window(called, time.time()))
        if all(one.text != NONE_YET for one in figures) or time.monotonic() > deadline:
            return figures
        time.sleep(_POLL_SECONDS)


def _query(panel: Panel, legend: str) -> Query:
    return next(query for query in panel.queries if query.legend == legend)
