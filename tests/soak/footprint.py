"""What a worker's pod holds on the node: processes, open files, temporary files and memory."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from devkit import cgroups


@dataclass(frozen=True)
class Footprint:
    """Sums over all processes of a pod."""

    processes: int
    open_files: int
    """File descriptors."""
    temporary_files: int
    """Files under /tmp in the container."""
    megabytes: float
    """Proportional set size in MiB: shared pages count once."""


def footprint(instance: str, pod_uid: str) -> Footprint:
    """Measure a pod with one container on the instance's node."""
    pids = sorted(_pids(instance, pod_uid))
    temporary = Path(f"/proc/{pids[0]}/root/tmp")
    return Footprint(
        processes=len(pids),
        open_files=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        temporary_files=sum(path.is_file() for path in temporary.rglob("*")),
        megabytes=sum(_megabytes(pid) for pid in pids),
    )


def _pids(instance: str, pod_uid: str) -> set[int]:
    """Return the processes of the pod's containers, without the pause container."""
    found: set[int] = set()
    for folder in cgroups.pod_folders(instance, pod_uid):
        with contextlib.suppress(OSError):  # the folder has just been removed
            found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
    return {pid for pid in found if "pause" not in _command(pid)}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "pause"  # it has just ended


def _megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
