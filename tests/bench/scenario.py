"""One program under the load of many objects: declared, done, settled, idle."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from controller.cluster.client import Document, KubeClient
from controller.cluster.kinds import Kind
from tests.bench.cost import Written, peak_megabytes, processor_seconds, writes
from tests.cluster.world import administrator

DECLARED_AT_ONCE = 10
DONE_BOUND = 280.0
SETTLE_SECONDS = 30.0
"""What the last objects still bring about: their children's status is written, and looked at."""
IDLE_SECONDS = 90.0


@dataclass(frozen=True)
class Scenario:
    """What is declared, and when an object is done."""

    kubeconfig: Path
    kind: Kind
    documents: list[Document]
    is_done: Callable[[Document], bool]


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

    seconds: float
    """From the first declaration until the last object was done."""
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
    async with administrator(scenario.kubeconfig) as client:
        _, version = await client.list_at(scenario.kind, None)
        await asyncio.gather(_declare(client, scenario), _all_done(client, scenario, version))
    seconds = monotonic() - started
    await asyncio.sleep(SETTLE_SECONDS)
    settled, written = processor_seconds(program.pid), writes(program.audit, program.user)
    await asyncio.sleep(IDLE_SECONDS)
    return Taken(
        seconds=seconds,
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


async def _all_done(client: KubeClient, scenario: Scenario, version: str) -> None:
    left = {_identity(document) for document in scenario.documents}
    try:
        async with asyncio.timeout(DONE_BOUND):
            async for _, document in client.watch(scenario.kind, None, version):
                if "name" in document["metadata"] and scenario.is_done(document):  # a bookmark has no name
                    left.discard(_identity(document))
                if not left:
                    return
    except TimeoutError:
        raise AssertionError(f"after {DONE_BOUND:.0f} s {len(left)} are not done, {min(left)} among them") from None
    raise AssertionError("the watch ended early")


def _identity(document: Document) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]
