"""Runs a command again whenever it ends: `kubectl port-forward` lasts only as long as the pod that it was made to.

`python -m devkit.demo.forward COMMAND...`, until SIGTERM or SIGINT, which end the command too.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

_POLL = 0.2
# Before the next try, in seconds; doubled while the command does not last.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_LASTED = 10.0


def keep(argv: Sequence[str], stopped: threading.Event) -> None:
    """Keep the command running until `stopped` is set."""
    pause = _SHORTEST_PAUSE
    while not stopped.is_set():
        started = time.monotonic()
        with subprocess.Popen(argv) as child:
            while child.poll() is None and not stopped.wait(_POLL):
                continue
            child.terminate()
        pause = _SHORTEST_PAUSE if time.monotonic() - started > _LASTED else min(2 * pause, _LONGEST_PAUSE)
        stopped.wait(pause)


def main() -> None:
    """Keep the command of the command line running."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    keep(sys.argv[1:], stopped)


if __name__ == "__main__":
    main()
