"""Locks between devkit commands. A lock ends with its process, so an interrupted command leaves none."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO

from devkit.errors import DevkitError
from devkit.paths import cache_dir
from devkit.progress import Progress

_TIMEOUT = 120.0
"""Longest wait for another command on the same instance, in seconds."""


@contextmanager
def lock(name: str, seconds: float = _TIMEOUT, progress: Progress | None = None) -> Iterator[None]:
    """Hold a lock by name; wait up to `seconds` while another command holds it, and show that as a step."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        if not _try_lock(handle):
            shown = progress.step(f"Wait for another command: {name}") if progress else nullcontext()
            with shown:
                _wait(handle, name, seconds)
        yield


def _try_lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(handle: IO[str], name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not _try_lock(handle):
        if time.monotonic() > deadline:
            raise DevkitError(
                f"another devkit command has held the lock {name} for {seconds:.0f} s: end that command and try again"
            )
        time.sleep(0.1)
