"""A worker that cannot use its own code, or the settings of a stage: it reports why, and checks again and again.

It does not register. The process stays up, so Kubernetes does not restart it in a loop, and the controller can report
the reason. It is not ready, so a rollout keeps the old workers.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from agentspec.wire import StageReports, WorkerConfig, WorkerStatus
from worker.own_code import CHECK_SECONDS
from worker.server import endpoints

logger = logging.getLogger(__name__)

RECHECK_SECONDS: Final = 60.0
"""Until both are checked again: they may have failed because of a service that they need. Doubles for own code."""
_MAX_RECHECK_SECONDS: Final = 600.0
_START_SECONDS: Final = 60.0
"""How long the checking process may take to start, on top of the check."""


class BrokenWorker:
    """A worker that never registers."""

    def __init__(self, config: WorkerConfig, code_failure: str, reports: StageReports) -> None:
        self._config = config
        self.code_failure = code_failure
        self._reports = reports

    def status(self) -> WorkerStatus:
        """Return the worker status with the failure."""
        return WorkerStatus(
            agent_name=self._config.registered_name,
            registered=False,
            draining=False,
            slots=self._config.calls_per_worker,
            calls=0,
            code_failure=self.code_failure,
            stages=self._reports,
        )


async def check_again() -> str:
    """Check the code in a new Python, because this process has an event loop and must not fork.

    Returns why it cannot be used; empty: it can.
    """
    reading, writing = os.pipe()
    try:
        environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
        command = [sys.executable, "-m", "worker.server.code_check", str(writing)]
        process = await asyncio.create_subprocess_exec(*command, env=environment, pass_fds=(writing,))
        try:
            status = await asyncio.wait_for(process.wait(), CHECK_SECONDS + _START_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            return "the check did not finish in time"
        os.set_blocking(reading, False)
        os.close(writing)
        writing = -1
        failure = os.read(reading, 4096).decode(errors="replace")
        return failure or ("" if status == 0 else f"the check ended with exit status {status}")
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


async def serve(
    config: WorkerConfig,
    port: int,
    code_failure: str = "",
    reports: StageReports | None = None,
    *,
    seconds: float = RECHECK_SECONDS,
    check: Callable[[], Awaitable[str]] = check_again,
) -> int:
    """Serve the endpoints until a restart may help; returns the exit status of a port that cannot be used.

    Settings of a stage are checked by the restart itself.
    """
    worker = BrokenWorker(config, code_failure, reports or StageReports())
    try:
        async with endpoints.serve(worker, port):
            await asyncio.sleep(seconds)
            while worker.code_failure and (failure := await check()):
                worker.code_failure = failure
                seconds = min(2 * seconds, _MAX_RECHECK_SECONDS)
                await asyncio.sleep(seconds)
    except OSError as error:
        logger.error("cannot serve HTTP", extra={"port": port, "error": str(error)})
        return 1
    return 0


def restart() -> NoReturn:
    """Replace this process by a new one with the same command."""
    logger.info("restarting, to check own code and settings again")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
