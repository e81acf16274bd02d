"""What a Prometheus saw of a run: which alerts fired when, and which queries and metrics have data."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import promql_parser

from devkit.dashboards.panels import GENERATED, Panel, Window, load
from devkit.dashboards.prometheus import Prometheus
from tests.waiting import eventually_in_thread

FACTOR = 60
"""How many seconds of the chart's rules pass in a second of the run."""
SCRAPE_SECONDS = 2.0
EVALUATION_SECONDS = 1.0
SETTINGS = (
    "monitoring.interval=120s",
    # A busy machine may answer a call after more than 3 s. The waiting callers are answered after more than 15 s.
    "monitoring.rules.slo.answerSeconds=15",
    # A normal reply takes 1 s, or several where speech recognition has to share the CPU. The slow one takes 10 s.
    "monitoring.rules.thresholds.replySeconds=7",
    # Counts fit the few calls of the run.
    "monitoring.rules.thresholds.minReplies=1",
    "monitoring.rules.thresholds.providerErrors=1",
)
FIRING = 'ALERTS{alertstate="firing"}'


@dataclass
class Observation:
    """A run from `started` (Unix time) on, as Prometheus sees it."""

    prometheus: Prometheus
    started: float
    causes: dict[str, float] = field(default_factory=dict)
    """When the run began to cause each alert."""
    stages: list[tuple[str, float]] = field(default_factory=list)
    """Title and start of each stage."""

    @contextmanager
    def stage(self, title: str, *alerts: str) -> Iterator[None]:
        """Run a part that causes these alerts."""
        now = time.time()
        print(f"{now - self.started:6.1f} s  {title}", flush=True)
        self.stages.append((title, now))
        self.causes |= dict.fromkeys(alerts, now)
        yield

    async def fires(self, *alerts: str, seconds: float = 120) -> None:
        """Wait until each of these alerts has fired since the run began to cause it."""

        def missing() -> set[str]:
            return set(alerts) - set(self.firing())

        await eventually_in_thread(lambda: not missing(), f"alerts fire: {', '.join(alerts)}", seconds)

    async def clear(self, seconds: float) -> None:
        """Wait until no alert fires."""
        await eventually_in_thread(lambda: not self.firing_now(), "every alert clears", seconds)

    def firing_now(self) -> set[str]:
        """Return the alerts that fire."""
        return {sample.labels["alertname"] for sample in self.prometheus.now(FIRING, self.window())}

    def firing(self) -> dict[str, list[float]]:
        """Return the times since the start at which each alert fired, one for each evaluation."""
        window = self.window()
        found: dict[str, set[float]] = defaultdict(set)
        for line in self.prometheus.over_time(FIRING, window):
            found[line.labels["alertname"]] |= {
                index * window.step for index, value in enumerate(line.values) if value is not None
            }
        return {alert: sorted(times) for alert, times in found.items() if times}

    def window(self, step: float = EVALUATION_SECONDS) -> Window:
        """Return the time of the run up to now."""
        return Window(self.started, time.time(), step, SCRAPE_SECONDS)

    def metrics(self, names: Collection[str]) -> set[str]:
        """Return those of these metrics that had a series during the run."""
        window = self.window()
        series = f'{{__name__=~"{"|".join(names)}"}}[{window.end - window.start:.0f}s]'
        samples = self.prometheus.now(f"group by (__name__) (last_over_time({series}))", window)
        return {sample.labels["__name__"] for sample in samples}

    def has_data(self, expression: str, window: Window) -> bool:
        """Whether a query returned a number at some time of the window."""
        lines = self.prometheus.over_time(expression, window)
        return any(value is not None for line in lines for value in line.values)


def panels(window: Window) -> Iterator[tuple[str, Panel]]:
    """Yield each panel of the dashboards with the dashboard's title, without the headings of rows."""
    for path in sorted(GENERATED.glob("*.json")):
        dashboard = load(path, window)
        yield from ((dashboard.title, panel) for panel in dashboard.panels if panel.queries)


def metrics_in(expression: str) -> set[str]:
    """Return the names of all metrics in an expression."""
    found: set[str] = set()

    def visit(node: object) -> bool:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            found.add(selector.name or "")
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found
