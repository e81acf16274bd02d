"""The cgroups that contain an instance's pods, one for each node, on machines with cgroup v1 or v2."""

import os
from collections.abc import Iterator
from pathlib import Path

from devkit.errors import DevkitError
from devkit.processes import kill_all

_ROOT = Path("/sys/fs/cgroup")


def cgroup_root(node: str) -> str:
    """Return the `cgroupRoot` of a node's kubelet."""
    return f"/avatar-agent-{node}"


def _hierarchies() -> list[Path]:
    """Return one folder on v2, and one for each mounted controller on v1, without links such as cpu,cpuacct."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    return [path for path in sorted(_ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]


def create(node: str) -> None:
    """Create a node's folder in every hierarchy.

    On v1 it copies cpuset's values, which a process in the folder needs.
    """
    for hierarchy in _hierarchies():
        folder = hierarchy / cgroup_root(node).lstrip("/")
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
    """Yield every cgroup of the instance's nodes, children before parents."""
    first = cgroup_root(name).lstrip("/")
    for hierarchy in _hierarchies():
        for root in (hierarchy / first, *hierarchy.glob(f"{first}.*")):
            for folder, _, _ in os.walk(root, topdown=False):
                yield Path(folder)


def pod_folders(name: str, pod_uid: str) -> Iterator[Path]:
    """Yield the cgroups of one pod of the instance and of its containers, children before parents."""
    # The kubelet's cgroup driver may write the uid with underscores.
    uids = {pod_uid, pod_uid.replace("-", "_")}
    yield from (folder for folder in folders(name) if any(uid in str(folder) for uid in uids))


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
