"""One program under the load of many objects: declared, acted on, serving, settled, idle."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from kube.client import Document, KubeClient
from kube.kinds import Kind
from tests.bench.cost import Written, peak_megabytes, processor_seconds, writes
from tests.cluster.world import administrator

DECLARED_AT_ONCE = 10
BOUND = 280.0
SETTLE_SECONDS = 30.0
"""What the last objects still bring about: their children's status is written, and looked at."""
IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Milestone:
    """Reached when an object of the kind and of the declared object's name says so."""

    kind: Kind
    reached: Callable[[Document], bool]


@dataclass(frozen=True)
class Scenario:
    """What is declared, and how one sees what has become of it."""

    kubeconfig: Path
    kind: Kind
    documents: list[Document]
    acted: Milestone
    """The program has done its part, as far as it can before pods run."""
    serving: Milestone
    """A pod runs, and is known to."""


@dataclass(frozen=True)
class Program:
    """Whose cost is taken."""

    pid: int
    user: str
    """Name under which the API server knows it."""
    audit: Path


@dataclass(frozen=True)
class Taken:
    """What one program needed for all objects."""

    acted: float
    """Seconds from the first declaration until every object was acted on."""
    serving: float
    """The same, until every object is served by a pod."""
    processor: float
    """Processor seconds until all had settled."""
    megabytes: float
    """The most memory it had at any time."""
    idle: float
    """Share of a core while nothing changed."""
    written: Counter[Written]
    """Requests that wrote, by object, until all had settled."""
    written_idle: Counter[Written]
    """The same, while nothing changed."""


async def run(scenario: Scenario, program: Program) -> Taken:
    """Declare everything and measure."""
    started, before = monotonic(), processor_seconds(program.pid)
    async with administrator(scenario.kubeconfig) as client, asyncio.TaskGroup() as group:
        acted = group.create_task(_all_reached(client, scenario, scenario.acted))
        serving = group.create_task(_all_reached(client, scenario, scenario.serving))
        await _declare(client, scenario)
    await asyncio.sleep(SETTLE_SECONDS)
    settled, written = processor_seconds(program.pid), writes(program.audit, program.user)
    await asyncio.sleep(IDLE_SECONDS)
    return Taken(
        acted=acted.result() - started,
        serving=serving.result() - started,
        processor=settled - before,
        megabytes=peak_megabytes(program.pid),
        idle=(processor_seconds(program.pid) - settled) / IDLE_SECONDS,
        written=written,
        written_idle=writes(program.audit, program.user) - written,
    )


async def _declare(client: KubeClient, scenario: Scenario) -> None:
    rest = iter(scenario.documents)

    async def one_after_the_other(documents: Iterable[Document]) -> None:
        for document in documents:
            await client.create(scenario.kind, document["metadata"]["namespace"], document)

    await asyncio.gather(*(one_after_the_other(rest) for _ in range(DECLARED_AT_ONCE)))


async def _all_reached(client: KubeClient, scenario: Scenario, milestone: Milestone) -> float:
    """The moment at which the last object has come so far."""
    left = {_identity(document) for document in scenario.documents}
    try:
        async with asyncio.timeout(BOUND):
            # Some may be declared already; a watch from there misses nothing.
            there, version = await client.list_at(milestone.kind, None)
            left -= {_identity(document) for document in there if milestone.reached(document)}
            while left:
                async for event, document in client.watch(milestone.kind, None, version):
                    version = document["metadata"]["resourceVersion"]
                    if event != "BOOKMARK" and milestone.reached(document):
                        left.discard(_identity(document))
                    if not left:
                        break
            return monotonic()
    except TimeoutError:
        raise AssertionError(f"{len(left)} have not come so far in {BOUND:.0f} s, {min(left)} among them") from None


def _identity(document: Document) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]
