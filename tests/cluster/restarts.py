"""Restarts the controller whenever it ends, as a kubelet does."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.process import STOP_SECONDS, RunningController, launch
from tests.waiting import eventually

BACKOFF_SECONDS = 0.5
READY_SECONDS = 60.0
"""Includes the time until the Lease of a killed controller expires."""


class RestartedController:
    """A controller that is restarted."""

    def __init__(self, kubeconfig: Path, folder: Path, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._namespace = namespace
        self.starts: list[RunningController] = []
        """Every process so far, the current one last."""

    @property
    def current(self) -> RunningController:
        """The current process."""
        return self.starts[-1]

    def kill(self) -> None:
        """Kill the current process with SIGKILL."""
        self.current.process.kill()

    def unexpected(self) -> list[dict[str, Any]]:
        """Return the log lines that report an error, of all processes."""
        return [line for start in self.starts for line in start.unexpected()]

    async def run(self) -> None:
        """Start and restart the controller until cancelled."""
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
            await asyncio.sleep(BACKOFF_SECONDS)

    async def ready(self) -> None:
        """Wait until the controller is ready."""

        async def answers() -> bool:
            return bool(self.starts) and await asyncio.to_thread(self.current.answers, "/readyz") == 200

        await eventually(answers, "the controller is ready", READY_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@asynccontextmanager
async def restarted(kubeconfig: Path, folder: Path, namespace: str) -> AsyncIterator[RestartedController]:
    """Run a controller for one namespace until the block ends, and restart it; `folder` contains its logs."""
    controller = RestartedController(kubeconfig, folder, namespace)
    running = asyncio.create_task(controller.run())
    try:
        await controller.ready()
        yield controller
    finally:
        running.cancel()
        await asyncio.wait((running,))
        if not running.cancelled():
            running.result()
