"""Reading the logs of an instance's processes."""

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_POLL = 0.2


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file."""
    with path.open(errors="replace") as log:
        return [line.rstrip("\n") for line in deque(log, maxlen=count)]


def follow_log(path: Path) -> Iterator[str]:
    """Lines written from now on, until the file is removed (`down`) or the reader is interrupted."""
    with path.open(errors="replace") as log:
        log.seek(0, os.SEEK_END)
        while path.exists():
            line = log.readline()
            if line:
                yield line.rstrip("\n")
            else:
                time.sleep(_POLL)
