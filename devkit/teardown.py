"""Removes an instance, complete or incomplete: every process, mount, cgroup, link and folder that `up` created.

It finds them by the instance's name and records. The order matters: the kubelet before the pods, because it would
restart them; the pods before containerd; daemons before the network.
"""

import contextlib
import shutil
from pathlib import Path

from devkit import cgroups, network
from devkit.errors import DevkitError
from devkit.instance import Layout, NodeLayout
from devkit.mounts import unmount_below
from devkit.node import Ctr
from devkit.paths import run_dir
from devkit.processes import is_alive, kill_all
from devkit.traces import CNI_RESULTS, CONTAINER_LOGS, folders, mount_roots, shared_files, traces

_SHARED_FOLDERS = (
    Path("/var/lib/kubelet/device-plugins"),
    Path("/var/lib/kubelet"),
    CONTAINER_LOGS,
    CNI_RESULTS,
    CNI_RESULTS.parent,
    run_dir(""),
)
_CONTROL_PLANE = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns"}


def remove(name: str) -> None:
    """Remove an instance. Raises DevkitError that names remains. It can run again after an interruption."""
    layout = Layout(name)
    table = layout.processes
    table.stop_all([node.suffixed(daemon) for node in layout.nodes for daemon in ("kubelet", "kube-proxy")], grace=0)
    cgroups.kill(name)
    clean = [node for node in layout.nodes if _empty_containerd(node)]
    runtimes = [node.suffixed("containerd") for node in layout.nodes]
    spawned = [process.name for process in table.all() if process.name not in {*_CONTROL_PLANE, *runtimes}]
    table.stop_all(spawned)
    table.stop_all(runtimes)
    for node in clean:
        (node.containerd_content / "clean").touch()
    # The control plane's data is deleted below, so it need not save anything.
    table.stop_all([process.name for process in table.all()], grace=0)
    # containerd's shims outlive it, and children outlive a killed daemon.
    kill_all(table.descendants, f"daemons of instance {name}")
    unmount_below(mount_roots(layout))
    cgroups.delete(name)
    network.delete(name)
    for path in shared_files(layout):
        path.unlink(missing_ok=True)
    for folder in folders(layout):
        if folder.exists():
            shutil.rmtree(folder)
    if left := traces(name):
        raise DevkitError(f"instance {name} is stopped, but these remain: {', '.join(left)}; run `down` again")


def _empty_containerd(node: NodeLayout) -> bool:
    """Remove containerd's containers, so that the next run can use its content. Returns whether that succeeded."""
    containerd = node.instance.processes.get(node.suffixed("containerd"))
    if containerd is None or not is_alive(containerd):
        return False
    try:
        Ctr(node).remove_containers()
    except DevkitError:
        return False  # the next `up` deletes the content; stopping everything is more important now
    return True


def remove_shared() -> None:
    """Remove the folders that instances create outside their own, after the last instance is removed."""
    for folder in _SHARED_FOLDERS:
        # This fails while a folder is not empty: then something else uses it.
        with contextlib.suppress(OSError):
            folder.rmdir()
