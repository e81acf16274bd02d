"""``python -m worker``: serves calls until SIGTERM."""

import asyncio
import logging
import os
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agentspec.wire import StageReports
from process.settings import EXIT_INVALID_SETTINGS, SettingsError
from worker import forkserver
from worker.config import SECRET_VARIABLES, clean_environment, load_settings, secret_values
from worker.server import logs

if TYPE_CHECKING:
    from worker.call.program import Program

logger = logging.getLogger("worker")  # __name__ is "__main__" in every process

_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus-client: the directory for the series of call processes."""


def main(program: "Program | None" = None) -> int:
    """Return 0 after a drain, 1 when the worker failed, 2 when the settings are invalid.

    `program` answers the calls; None: the agent that the configuration declares does.
    """
    # A worker that is not registered has nothing to finish. Until then either signal ends it at once, whatever is being
    # imported. For process 1 of a container this action has no effect: there, the image's init process is process 1.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    clean_environment(os.environ)
    logs.configure(os.environ.get(name, "") for name in SECRET_VARIABLES)
    try:
        settings = load_settings()
    except SettingsError as error:
        logger.critical("invalid settings", extra={"error": str(error)})
        return EXIT_INVALID_SETTINGS
    logs.configure(secret_values(settings.config))
    metrics_directory = Path(os.environ.pop(_METRICS_VARIABLE, "") or tempfile.mkdtemp(prefix="avatar-agent-metrics-"))

    # Imported only now: when prometheus_client is imported without the variable just removed, it keeps this process'
    # series in memory. Call processes have the variable and write their series to files. A program may have imported it
    # before; then it chooses again.
    with forkserver.sharing_memory():
        from prometheus_client import values

        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        from worker.call import preload
        from worker.call.avatars import plugin
        from worker.server import broken_code, metrics
    metrics.prepare_directory(metrics_directory)
    metrics.expose_call_processes(metrics_directory)
    os.environ[_METRICS_VARIABLE] = str(metrics_directory)
    if program is not None and settings.config.agent_code:
        logger.warning(
            "worker.agent ignored, a whole program answers", extra={"agent_code": settings.config.agent_code}
        )
    elif settings.config.agent_code and (failure := preload.check_code(settings.config)):
        status = asyncio.run(broken_code.serve(settings.config, settings.port, failure))
        return status or broken_code.restart()
    plugin.check(settings.config)
    forkserver.start(partial(preload.prepare_call_processes, imports_own_code=program is None))

    from worker.server import worker

    if program is None and (reports := asyncio.run(worker.check_stages(settings))) != StageReports():
        status = asyncio.run(broken_code.serve(settings.config, settings.port, reports=reports))
        return status or broken_code.restart()
    return worker.run(settings, program)


if __name__ == "__main__":
    sys.exit(main())
