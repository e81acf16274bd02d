"""``python -m worker``: serves calls until SIGTERM."""

import logging
import os
import sys
import tempfile
from pathlib import Path

from process.settings import EXIT_INVALID_SETTINGS, SettingsError
from worker.config import SECRET_VARIABLES, clean_environment, load_settings
from worker.server import logs

logger = logging.getLogger("worker")  # __name__ is "__main__" in every process

_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def main() -> int:
    """Return 0 after a drain, 1 when the worker failed, 2 when the settings are invalid."""
    clean_environment(os.environ)
    logs.configure(os.environ.get(name, "") for name in SECRET_VARIABLES)
    try:
        settings = load_settings()
    except SettingsError as error:
        logger.critical("invalid settings", extra={"error": str(error)})
        return EXIT_INVALID_SETTINGS
    metrics_directory = Path(os.environ.pop(_METRICS_VARIABLE, "") or tempfile.mkdtemp(prefix="avatar-agent-metrics-"))

    # Imported only now: when prometheus_client is imported without the variable just removed, it keeps this process'
    # series in memory. Call processes inherit the variable and write their series to files.
    from worker.server import metrics, worker

    metrics.prepare_directory(metrics_directory)
    metrics.expose_call_processes(metrics_directory)
    os.environ[_METRICS_VARIABLE] = str(metrics_directory)
    return worker.run(settings)


if __name__ == "__main__":
    sys.exit(main())
