"""One program under the load of many objects: they are declared, applied, serving, settled, then idle."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import aiohttp

from kube.client import Document, KubeClient
from kube.kinds import Kind
from tests.bench.cost import Written, peak_megabytes, processor_seconds, writes
from tests.cluster.world import administrator

DECLARED_AT_ONCE = 10
REACHED_SECONDS = 280.0
"""In which every object must have reached a milestone."""
SETTLE_SECONDS = 30.0
"""Time for the last objects' follow-up work: their children's status changes, and the program reconciles that."""
IDLE_SECONDS = 60.0
SCRAPE_SECONDS = 30.0
"""Interval of the chart's PodMonitors (monitoring.interval in charts/avatar-agent/values.yaml)."""
_ACCEPT = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"}
"""As Prometheus 2.42 asks, shortened; aiohttp asks for gzip, as Prometheus does."""


@dataclass(frozen=True)
class Milestone:
    """A state that the object of this kind with the declared object's name reaches."""

    kind: Kind
    reached: Callable[[Document], bool]


@dataclass(frozen=True)
class Scenario:
    """The objects to declare, and the milestones that each has to reach."""

    kubeconfig: Path
    kind: Kind
    documents: list[Document]
    applied: Milestone
    """The program has applied everything that it can apply before pods run."""
    serving: Milestone
    """A pod runs, and the object's status says so."""


@dataclass(frozen=True)
class Program:
    """The process whose cost is measured."""

    pid: int
    user: str
    """Its user name at the API server."""
    audit: Path
    """Audit log of the API server."""
    metrics: str = ""
    """URL that is scraped after all objects serve; empty: none."""


@dataclass(frozen=True)
class Scrape:
    """One request for the metrics."""

    seconds: float
    kilobytes: float
    """Size of the text in KiB, before compression."""


@dataclass(frozen=True)
class Measured:
    """Cost of one program for all objects."""

    applied: float
    """Seconds from the first declaration until every object was applied."""
    serving: float
    """Seconds from the first declaration until a pod served every object."""
    processor: float
    """Processor seconds until all objects had settled."""
    megabytes: float
    """Peak resident memory in MiB."""
    idle: float
    """Share of a core while nothing changed, scrapes included."""
    scrapes: list[Scrape]
    written: Counter[Written]
    """Write requests by object, until all objects had settled."""
    written_idle: Counter[Written]
    """Write requests by object, while nothing changed."""


async def run(scenario: Scenario, program: Program) -> Measured:
    """Declare everything and measure."""
    started, before = monotonic(), processor_seconds(program.pid)
    async with administrator(scenario.kubeconfig) as client, asyncio.TaskGroup() as group:
        applied = group.create_task(_all_reached(client, scenario, scenario.applied))
        serving = group.create_task(_all_reached(client, scenario, scenario.serving))
        await _declare(client, scenario)
    scrapes = await _unchanged(SETTLE_SECONDS, program.metrics)
    settled, written = processor_seconds(program.pid), writes(program.audit, program.user)
    scrapes += await _unchanged(IDLE_SECONDS, program.metrics)
    return Measured(
        applied=applied.result() - started,
        serving=serving.result() - started,
        processor=settled - before,
        megabytes=peak_megabytes(program.pid),
        idle=(processor_seconds(program.pid) - settled) / IDLE_SECONDS,
        scrapes=scrapes,
        written=written,
        written_idle=writes(program.audit, program.user) - written,
    )


async def _declare(client: KubeClient, scenario: Scenario) -> None:
    remaining = iter(scenario.documents)

    async def create_each(documents: Iterable[Document]) -> None:
        for document in documents:
            await client.create(scenario.kind, document["metadata"]["namespace"], document)

    await asyncio.gather(*(create_each(remaining) for _ in range(DECLARED_AT_ONCE)))


async def _unchanged(seconds: float, metrics: str) -> list[Scrape]:
    """Change nothing for this long, while the metrics are scraped as by Prometheus."""
    scrapes: list[Scrape] = []
    async with aiohttp.ClientSession(headers=_ACCEPT) as session:
        for _ in range(round(seconds / SCRAPE_SECONDS)):
            due = monotonic() + SCRAPE_SECONDS
            if metrics:
                scrapes.append(await _scrape(session, metrics))
            await asyncio.sleep(max(0.0, due - monotonic()))
    return scrapes


async def _scrape(session: aiohttp.ClientSession, url: str) -> Scrape:
    began = monotonic()
    async with session.get(url, raise_for_status=True) as response:
        text = await response.read()
    return Scrape(monotonic() - began, len(text) / 1024)


async def _all_reached(client: KubeClient, scenario: Scenario, milestone: Milestone) -> float:
    """Return the time (monotonic clock) at which the last object reached the milestone."""
    left = {_identity(document) for document in scenario.documents}
    try:
        async with asyncio.timeout(REACHED_SECONDS):
            # Some objects may exist already; a watch from the list's version misses no change.
            existing, version = await client.list_with_version(milestone.kind, None)
            left -= {_identity(document) for document in existing if milestone.reached(document)}
            while left:
                async for event, document in client.watch(milestone.kind, None, version):
                    version = document["metadata"]["resourceVersion"]
                    if event != "BOOKMARK" and milestone.reached(document):
                        left.discard(_identity(document))
                    if not left:
                        break
            return monotonic()
    except TimeoutError:
        raise AssertionError(
            f"{len(left)} objects, such as {min(left)}, missed the milestone in {REACHED_SECONDS:.0f} s"
        ) from None


def _identity(document: Document) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]
