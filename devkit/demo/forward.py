"""Restarts a command whenever it ends, because `kubectl port-forward` ends with the pod that it forwards to.

`python -m devkit.demo.forward COMMAND...` runs until SIGTERM or SIGINT, which stop the command as well.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

_POLL = 0.2
# Backoff before the next start, in seconds; it doubles while the command ends early.
_INITIAL_BACKOFF, _MAX_BACKOFF = 0.2, 5.0
_STABLE_SECONDS = 10.0
"""A command that ran this long resets the backoff."""


def keep_running(argv: Sequence[str], stopped: threading.Event) -> None:
    """Run a command, and restart it with backoff whenever it ends, until `stopped` is set."""
    backoff = _INITIAL_BACKOFF
    while not stopped.is_set():
        started = time.monotonic()
        with subprocess.Popen(argv) as child:
            while child.poll() is None and not stopped.wait(_POLL):
                continue
            child.terminate()
        backoff = _INITIAL_BACKOFF if time.monotonic() - started > _STABLE_SECONDS else min(2 * backoff, _MAX_BACKOFF)
        stopped.wait(backoff)


def main() -> None:
    """Keep the command of the command line running."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    keep_running(sys.argv[1:], stopped)


if __name__ == "__main__":
    main()
