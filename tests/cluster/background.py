"""Long scenarios run in parallel with the other tests, in an event loop in their own thread, because they mostly wait.

Each starts its own API server, which it disturbs. A test names its scenario with
`@pytest.mark.background.with_args(scenario)`; it runs after all other tests, and waits for the result.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devkit.cluster import Cluster
from tests.cluster.instance import controller_kubeconfig, instance
from tests.cluster.openai import OpenAI
from tests.cluster.threads import entered


@dataclass(frozen=True)
class Stage:
    """Resources of a scenario."""

    openai: OpenAI
    folder: Path
    """The scenario's own folder, empty."""
    turn: asyncio.Lock = field(repr=False)
    """Lock for the instance name that scenarios share."""

    @asynccontextmanager
    async def cluster(self, name: str = "") -> AsyncIterator[tuple[Cluster, Path]]:
        """Start an instance and return it with the controller's credentials; without a name, one scenario at a time."""
        if name:
            async with _opened(name, self.folder) as opened:
                yield opened
        else:
            async with self.turn, _opened("faults", self.folder) as opened:
                yield opened


Scenario = Callable[[Stage], Coroutine[Any, Any, None]]


class Background:
    """Runs scenarios in an event loop in a thread."""

    def __init__(self, openai: OpenAI, folder: Path) -> None:
        self._openai = openai
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._turn = asyncio.Lock()
        self._outcomes: dict[Scenario, Future[None]] = {}

    def start(self, scenario: Scenario) -> None:
        """Start a scenario."""
        folder = self._folder / scenario.__name__
        folder.mkdir()
        stage = Stage(self._openai, folder, self._turn)
        self._outcomes[scenario] = asyncio.run_coroutine_threadsafe(scenario(stage), self._loop)

    def finish(self, scenario: Scenario, seconds: float) -> None:
        """Wait until a scenario ends; raise its exception if it failed."""
        self._outcomes[scenario].result(seconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run until the block ends, then cancel the remaining scenarios and give them a minute to clean up."""
        thread = threading.Thread(target=self._loop.run_forever, name="background")
        thread.start()
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(60)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _opened(name: str, folder: Path) -> AsyncIterator[tuple[Cluster, Path]]:
    async with entered(instance(name)) as cluster:
        yield cluster, await asyncio.to_thread(controller_kubeconfig, cluster, folder)
