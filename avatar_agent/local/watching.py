"""Notices changes of files by their time of change and size, also when an editor replaces a file."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.3
_MAX_FILES: Final = 5000
"""Python files of own code that are followed."""
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})

State = dict[Path, tuple[int, int]]


def code_files(code: str, folders: Sequence[Path]) -> list[Path]:
    """Return the Python files of the package or module that ``module:Name`` names, if it is in one of these folders."""
    top = code.partition(":")[0].partition(".")[0]
    for folder in folders:
        if top and (folder / top).is_dir():
            return [path for path, _ in zip(_below(folder / top), range(_MAX_FILES), strict=False)]
        if top and (folder / f"{top}.py").is_file():
            return [folder / f"{top}.py"]
    return []


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if name.endswith(".py"))


def state_of(files: Iterable[Path]) -> State:
    """Return time of change and size of the files that exist."""
    found = {}
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found[file] = (status.st_mtime_ns, status.st_size)
    return found


async def changed(code: str, manifests: Sequence[Path], folders: Sequence[Path], before: State) -> State:
    """Wait until a manifest, or a file of own code, differs from `before`; returns the new state."""
    while True:
        now = await asyncio.to_thread(lambda: state_of([*manifests, *code_files(code, folders)]))
        if now != before:
            return now
        await asyncio.sleep(POLL_SECONDS)
