"""Temporary folders for builds."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devkit.mounts import unmount_below
from devkit.paths import cache_dir


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Create an empty folder on the caches' file system, so that a rename can publish the result.

    The caller must hold a lock for the name. Files and mounts of a killed run are removed first.
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
