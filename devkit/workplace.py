"""Folders for half made things."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devkit.mounts import unmount_below
from devkit.paths import cache_dir


@contextmanager
def workplace(name: str) -> Iterator[Path]:
    """An empty folder on the caches' file system, so that a rename completes what was made in it.

    Callers hold a lock that goes with the name. What a killed run left, files or mounts, is removed first.
    """
    folder = cache_dir() / "unfinished" / name
    _clear(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        _clear(folder)


def _clear(folder: Path) -> None:
    if folder.exists():
        unmount_below([folder])
        shutil.rmtree(folder)
