"""A worker that cannot use its own code, or the settings of a stage: it reports why, and tries again after a while.

It does not register.

The process stays up, so Kubernetes does not restart it in a loop, and the controller can report the reason. It is not
ready, so a rollout keeps the old workers.
"""

import asyncio
import logging
import os
import sys
from typing import Final, NoReturn

from agentspec.wire import StageReports, WorkerConfig, WorkerStatus
from worker.server import endpoints

logger = logging.getLogger(__name__)

RECHECK_SECONDS: Final = 60.0
"""Until both are tried again: they may have failed because of a service that they need."""


class BrokenWorker:
    """A worker that never registers."""

    def __init__(self, config: WorkerConfig, code_failure: str, reports: StageReports) -> None:
        self._config = config
        self._code_failure = code_failure
        self._reports = reports

    def status(self) -> WorkerStatus:
        """Return the worker status with the failure."""
        return WorkerStatus(
            agent_name=self._config.registered_name,
            registered=False,
            draining=False,
            slots=self._config.calls_per_worker,
            calls=0,
            code_failure=self._code_failure,
            stages=self._reports,
        )


async def serve(
    config: WorkerConfig,
    port: int,
    code_failure: str = "",
    *,
    reports: StageReports | None = None,
    seconds: float = RECHECK_SECONDS,
) -> int:
    """Serve the endpoints until it is time to try again; returns the exit status of a port that cannot be used."""
    try:
        async with endpoints.serve(BrokenWorker(config, code_failure, reports or StageReports()), port):
            await asyncio.sleep(seconds)
    except OSError as error:
        logger.error("cannot serve HTTP", extra={"port": port, "error": str(error)})
        return 1
    return 0


def restart() -> NoReturn:
    """Replace this process by a new one with the same command, which checks again."""
    logger.info("checking own code and settings again")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
