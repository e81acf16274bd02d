"""``python -m worker``: read the configuration, then serve calls until told to stop."""

import os
import sys
import tempfile
from pathlib import Path

from worker.config import SECRET_VARIABLES, ConfigError, clean_environment, load_settings

_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def main() -> int:
    """Exit status 0 after a drain, 1 when the worker failed, 2 when it is configured wrongly."""
    try:
        settings = load_settings()
    except ConfigError as error:
        print(f"avatar-agent worker: {error}", file=sys.stderr)
        return 2
    clean_environment(os.environ)
    metrics_directory = Path(os.environ.pop(_METRICS_VARIABLE, "") or tempfile.mkdtemp(prefix="avatar-agent-metrics-"))

    # Only now: prometheus_client decides at import, by the variable just removed, to keep this process' series in
    # memory. Call processes inherit the variable and write theirs to files.
    from worker.server import logs, metrics, worker

    metrics.prepare_directory(metrics_directory)
    metrics.expose_call_processes(metrics_directory)
    os.environ[_METRICS_VARIABLE] = str(metrics_directory)
    logs.set_up(os.environ.get(name, "") for name in SECRET_VARIABLES)
    return worker.run(settings)


if __name__ == "__main__":
    sys.exit(main())
