"""The controller under something that starts it again whenever it ends, as the kubelet does."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.process import STOP_SECONDS, RunningController, launch
from tests.waiting import eventually

PAUSE_SECONDS = 0.5
READY_SECONDS = 40.0
"""A Lease of one that was killed runs out first."""


class Kept:
    """A controller that is started again."""

    def __init__(self, kubeconfig: Path, folder: Path, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._namespace = namespace
        self.starts: list[RunningController] = []
        """Every process so far, the present one last."""

    @property
    def now(self) -> RunningController:
        """The present process."""
        return self.starts[-1]

    def kill(self) -> None:
        """End the present process without a warning (SIGKILL)."""
        self.now.process.kill()

    def unexpected(self) -> list[dict[str, Any]]:
        """What was logged and should not have been."""
        return [line for start in self.starts for line in start.unexpected()]

    async def run(self) -> None:
        """Start it again and again, until cancelled."""
        while True:
            log = self._folder / f"controller-{len(self.starts) + 1}.log"
            controller = launch(sys.executable, self._kubeconfig, log, self._namespace)
            self.starts.append(controller)
            try:
                await asyncio.to_thread(controller.process.wait)
            except asyncio.CancelledError:
                controller.process.terminate()
                await asyncio.to_thread(_end, controller.process)
                raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def ready(self) -> None:
        """Wait until it is."""

        async def answers() -> bool:
            return bool(self.starts) and await asyncio.to_thread(self.now.answers, "/readyz") == 200

        await eventually(answers, "the controller is ready", READY_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@asynccontextmanager
async def kept(kubeconfig: Path, folder: Path, namespace: str) -> AsyncIterator[Kept]:
    """A controller for one namespace that is ready, and kept running until the block ends; logs are in the folder."""
    controller = Kept(kubeconfig, folder, namespace)
    keeping = asyncio.create_task(controller.run())
    try:
        await controller.ready()
        yield controller
    finally:
        keeping.cancel()
        await asyncio.wait((keeping,))
        if not keeping.cancelled():
            keeping.result()
