"""Locks between devkit commands. A lock ends with its process, so none is ever left behind."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO

from devkit.errors import DevkitError
from devkit.paths import cache_dir
from devkit.progress import Progress

# Another `up` or `down` of the same instance may take this long before we give up, in seconds.
_BOUND = 120.0


@contextmanager
def lock(name: str, seconds: float = _BOUND, progress: Progress | None = None) -> Iterator[None]:
    """Hold the lock of that name; wait for up to `seconds`, visibly, while another command holds it."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        if not _taken(handle):
            shown = progress.step(f"Wait for another command: {name}") if progress else nullcontext()
            with shown:
                _wait(handle, name, seconds)
        yield


def _taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(handle: IO[str], name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not _taken(handle):
        if time.monotonic() > deadline:
            raise DevkitError(f"another devkit command has held {name} for {seconds:.0f} s: end it and try again")
        time.sleep(0.1)
