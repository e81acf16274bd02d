"""The cgroup that contains an instance's pods, on machines with cgroup v1 or v2."""

import os
from collections.abc import Iterator
from pathlib import Path

from devkit.errors import DevkitError
from devkit.processes import kill_all

_ROOT = Path("/sys/fs/cgroup")


def cgroup_root(name: str) -> str:
    """Return the kubelet's `cgroupRoot`."""
    return f"/avatar-agent-{name}"


def _hierarchies() -> list[Path]:
    """Return one folder on v2, and one for each mounted controller on v1, without links such as cpu,cpuacct."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    return [path for path in sorted(_ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]


def create(name: str) -> None:
    """Create the folder in every hierarchy. On v1 it copies cpuset's values, which a process in the folder needs."""
    for hierarchy in _hierarchies():
        folder = hierarchy / cgroup_root(name).lstrip("/")
        try:
            _create(hierarchy, folder)
        except OSError as error:
            raise DevkitError(f"cannot create the cgroup {folder}: {error.strerror}") from error


def _create(hierarchy: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):
        source = hierarchy / setting
        if source.exists():
            (folder / setting).write_text(source.read_text())
    if hierarchy == _ROOT:
        _delegate(hierarchy)
        _delegate(folder)


def _delegate(folder: Path) -> None:
    """Let the children of `folder` use every controller that it has itself (v2)."""
    controllers = (folder / "cgroup.controllers").read_text().split()
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in controllers))


def folders(name: str) -> Iterator[Path]:
    """Yield every cgroup of the instance, children before parents."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / cgroup_root(name).lstrip("/"), topdown=False):
            yield Path(folder)


def members(name: str) -> set[int]:
    """Return the processes in the instance's cgroups: its pods' containers."""
    found: set[int] = set()
    for folder in folders(name):
        try:
            found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        except OSError:
            continue  # containerd has just removed it: nothing runs there
    return found


def kill(name: str) -> None:
    """Kill the processes in the instance's pods and wait until they have ended."""
    kill_all(lambda: members(name), f"pods of instance {name}")


def delete(name: str) -> None:
    """Remove the folders. Raises DevkitError while a process is left in one."""
    for folder in folders(name):
        try:
            folder.rmdir()
        except OSError as error:
            raise DevkitError(f"cannot remove the cgroup {folder}: {error.strerror}") from error
