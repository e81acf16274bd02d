"""Unmounts everything below a folder before it is deleted."""

from collections.abc import Sequence
from pathlib import Path

from devkit.commands import run
from devkit.errors import DevkitError

_TRIES = 50


def mounts_below(folders: Sequence[Path], mountinfo: str) -> list[str]:
    """Return the mount points below the folders, last mounted first; proc(5) escapes blanks as \\040."""
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    below = [point for point in points if any(point.startswith(f"{folder}/") for folder in folders)]
    return below[::-1]


def unmount_below(folders: Sequence[Path]) -> None:
    """Unmount everything below these folders; repeat until nothing is left, because mounts may be stacked."""
    for _ in range(_TRIES):
        points = mounts_below(folders, Path("/proc/self/mountinfo").read_text())
        if not points:
            return
        for point in points:
            run(["umount", "--lazy", point])
    raise DevkitError(f"another program keeps mounting file systems below {', '.join(map(str, folders))}")
