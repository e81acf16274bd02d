"""How many avatars the agent may have at once (`avatar.maxSessions`), as the controller says.

The limit is not in the worker's configuration, because a change of it must not replace workers. The controller sends it
with its request for the worker status. The main process writes it to a file, which call processes read.
"""

import os
from pathlib import Path
from typing import Final

from worker.reports import SOCKET_VARIABLE

_FILE: Final = "max-avatars"


def publish(limit: int | None) -> None:
    """Tell call processes the limit, from the main process; None: there is none."""
    if (path := _path()) is not None:
        new = path.with_suffix(".new")
        new.write_text("" if limit is None else str(limit))
        new.replace(path)


def read() -> int | None:
    """Return the limit; None when there is none, or the controller has not sent it yet."""
    path = _path()
    try:
        text = path.read_text() if path is not None else ""
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _path() -> Path | None:
    socket = os.environ.get(SOCKET_VARIABLE)
    return Path(socket).with_name(_FILE) if socket else None
