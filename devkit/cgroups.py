"""The cgroup under which the kubelet puts an instance's pods, on cgroup v1 and v2 machines alike."""

import os
from collections.abc import Iterator
from pathlib import Path

from devkit.errors import DevkitError
from devkit.processes import kill_all

_ROOT = Path("/sys/fs/cgroup")


def cgroup_root(name: str) -> str:
    """The kubelet's `cgroupRoot`."""
    return f"/avatar-agent-{name}"


def _hierarchies() -> list[Path]:
    """One folder on v2; on v1 one per mounted controller (links such as cpu,cpuacct counted once)."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    return [path for path in sorted(_ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]


def create(name: str) -> None:
    """Make the folder in every hierarchy; v1's cpuset needs its values copied before anything can run in it."""
    for hierarchy in _hierarchies():
        folder = hierarchy / cgroup_root(name).lstrip("/")
        try:
            _create(hierarchy, folder)
        except OSError as error:
            raise DevkitError(f"this machine does not let us make the cgroup {folder}: {error.strerror}") from error


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
    """v2: let the children of `folder` use every controller that it has itself."""
    controllers = (folder / "cgroup.controllers").read_text().split()
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in controllers))


def folders(name: str) -> Iterator[Path]:
    """Every cgroup of the instance, children before parents."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / cgroup_root(name).lstrip("/"), topdown=False):
            yield Path(folder)


def members(name: str) -> set[int]:
    """Processes inside the instance's cgroups: its pods' containers."""
    found: set[int] = set()
    for folder in folders(name):
        try:
            found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        except OSError:
            continue  # containerd removed it while we were looking: nothing runs there.
    return found


def kill(name: str) -> None:
    """Kill what runs in the instance's pods and wait until it is gone."""
    kill_all(lambda: members(name), f"what runs in the pods of {name}")


def delete(name: str) -> None:
    """Remove the folders; the kernel refuses while a process is left in one."""
    for folder in folders(name):
        try:
            folder.rmdir()
        except OSError as error:
            raise DevkitError(f"cannot remove the cgroup {folder}: {error.strerror}") from error
