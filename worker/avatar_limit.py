"""How many avatars the agent may have at once (`avatar.maxSessions`), and which jobs of the worker have one.

The limit is not in the worker's configuration, because a change of it must not replace workers. The controller sends it
with its request for the worker status. The main process writes both to files, which call processes read.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from worker.reports import SOCKET_VARIABLE

_LIMIT: Final = "max-avatars"
_JOBS: Final = "avatar-jobs"


def publish(limit: int | None) -> None:
    """Tell call processes the limit, from the main process; None: there is none."""
    _write(_LIMIT, "" if limit is None else str(limit))


def read() -> int | None:
    """Return the limit; None when there is none, or the controller has not sent it yet."""
    text = _read(_LIMIT)
    return int(text) if text.isdigit() else None


def publish_jobs(jobs: Iterable[str]) -> None:
    """Tell call processes which jobs have an avatar, the oldest first, from the main process."""
    _write(_JOBS, "\n".join(jobs))


def jobs_with_avatar() -> list[str]:
    """Return the jobs of this worker that have an avatar, the oldest first."""
    return _read(_JOBS).split()


def _write(name: str, text: str) -> None:
    if (path := _path(name)) is not None:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)


def _read(name: str) -> str:
    path = _path(name)
    try:
        return path.read_text() if path is not None else ""
    except OSError:
        return ""


def _path(name: str) -> Path | None:
    socket = os.environ.get(SOCKET_VARIABLE)
    return Path(socket).with_name(name) if socket else None
