"""The metrics that all three processes have in common, and the parts that their own metrics are made of.

The labels `agent_namespace` and `agent` name an AvatarAgent. Prometheus uses `namespace` for the scraped target.

A series of a counter that first appears at 1 hides its first increase: `increase()` has nothing to compare it with. So
each process creates the series with known labels at 0. Series of ``_created`` timestamps are off everywhere.

This module imports prometheus_client; the worker's main process imports it late (worker/__main__.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, Info, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from process.version import VERSION

AGENT_LABELS: Final = ("agent_namespace", "agent")
CALL_START_BUCKETS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
"""Seconds that a caller waits for the agent. The objective, 3 s, is one of the bounds."""
LAG_INTERVAL_SECONDS: Final = 0.5

_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

Samples = Iterable[tuple[Sequence[str], float]]
"""Label values and value of each sample."""

disable_created_metrics()  # type: ignore[no-untyped-call]


def prefix_of(component: str) -> str:
    """Return what the names of a component's metrics begin with."""
    return f"avatar_agent_{component}_"


class SampledGauge(Collector):
    """A gauge whose samples a function returns at each scrape; no samples mean no series.

    Scrapes run in a thread, so the function must read state in a way that is safe there: `list` of a dictionary's
    values is, and a loop over a dictionary is not.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        samples: Callable[[], Samples],
        *,
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.labels = labels
        self.samples = samples
        self._documentation = documentation
        registry.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metric family without samples, which registration uses."""
        return [self._family()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The current samples."""
        family = self._family()
        for labels, value in self.samples():
            family.add_metric(labels, value)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self._documentation, labels=self.labels)


class ProcessMetrics:
    """Version, process figures and event-loop lag of one process."""

    def __init__(self, component: str, registry: CollectorRegistry) -> None:
        """`component`: controller, gateway or worker."""
        info = Info(
            "avatar_agent_build", "Always 1: the component and the version of its code.", ["component"],
            registry=registry,
        )  # fmt: skip
        info.labels(component).info({"version": VERSION})
        ProcessCollector(registry=registry)
        self._lag = Histogram(
            f"{prefix_of(component)}event_loop_lag_seconds",
            f"Delay of a timer in the event loop, measured every {LAG_INTERVAL_SECONDS:g} s. It grows when the process "
            "lacks CPU or a task blocks.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Measure the event-loop lag within the context."""
        task = asyncio.create_task(self._sample(), name="event_loop_lag")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL_SECONDS
            await asyncio.sleep(LAG_INTERVAL_SECONDS)
            self._lag.observe(max(0.0, loop.time() - due))
