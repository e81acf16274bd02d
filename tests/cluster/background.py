"""Long scenarios run beside the other tests, in an event loop in a thread of their own: most of their time is waiting.

Each brings its own API server up, since it does to it what the other tests could not bear. A test names its scenario
with `@pytest.mark.background.with_args(scenario)`, is sorted behind all others, and waits for the outcome.
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
    """What a scenario finds."""

    openai: OpenAI
    folder: Path
    """Empty, its own."""
    turn: asyncio.Lock = field(repr=False)
    """Held while an instance of the name that scenarios share is up."""

    @asynccontextmanager
    async def cluster(self, name: str = "") -> AsyncIterator[tuple[Cluster, Path]]:
        """An instance of its own, and the controller's credentials for it; without a name, one scenario at a time."""
        if name:
            async with _opened(name, self.folder) as opened:
                yield opened
        else:
            async with self.turn, _opened("faults", self.folder) as opened:
                yield opened


Scenario = Callable[[Stage], Coroutine[Any, Any, None]]


class Background:
    """Runs scenarios."""

    def __init__(self, openai: OpenAI, folder: Path) -> None:
        self._openai = openai
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._turn = asyncio.Lock()
        self._outcomes: dict[Scenario, Future[None]] = {}

    def start(self, scenario: Scenario) -> None:
        """Begin it."""
        folder = self._folder / scenario.__name__
        folder.mkdir()
        stage = Stage(self._openai, folder, self._turn)
        self._outcomes[scenario] = asyncio.run_coroutine_threadsafe(scenario(stage), self._loop)

    def finish(self, scenario: Scenario, seconds: float) -> None:
        """Wait for its end; raises what it failed with."""
        self._outcomes[scenario].result(seconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run until the block ends; what has not ended then is cancelled, and has a minute to tidy up."""
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
