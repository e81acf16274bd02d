"""Reads the logs of an instance's processes."""

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_POLL = 0.2


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a file."""
    with path.open(errors="replace") as log:
        return [line.rstrip("\n") for line in deque(log, maxlen=count)]


def follow_log(path: Path) -> Iterator[str]:
    """Yield new lines of a file until `down` removes it."""
    with path.open(errors="replace") as log:
        log.seek(0, os.SEEK_END)
        while path.exists():
            line = log.readline()
            if line:
                yield line.rstrip("\n")
            else:
                time.sleep(_POLL)
