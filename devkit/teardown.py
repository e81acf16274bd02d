"""Undo an instance: every process, mount, cgroup, link and folder that `up` made, whole or half made.

Everything is found by the instance's own name and records, in an order in which each part lets go of the next:
the kubelet before the pods (it would restart them), the pods before containerd, daemons before the network.
"""

import contextlib
import shutil
from pathlib import Path

from devkit import cgroups, network
from devkit.errors import DevkitError
from devkit.instance import Layout
from devkit.mounts import unmount_below
from devkit.node import Ctr
from devkit.paths import run_dir
from devkit.processes import is_alive, kill_all
from devkit.traces import CNI_RESULTS, CONTAINER_LOGS, mount_roots, shared_files, traces

_SHARED_FOLDERS = (
    Path("/var/lib/kubelet/device-plugins"),
    Path("/var/lib/kubelet"),
    CONTAINER_LOGS,
    CNI_RESULTS,
    CNI_RESULTS.parent,
    run_dir(""),
)
_DAEMONS = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "coredns"}


def remove(name: str) -> None:
    """Remove an instance; raises DevkitError naming what is left. May be repeated after an interruption."""
    layout = Layout(name)
    table = layout.processes
    table.stop_all(["kubelet", "kube-proxy"], grace=0)
    cgroups.kill(name)
    containerd = table.get("containerd")
    clean = containerd is not None and is_alive(containerd) and _empty_containerd(layout)
    spawned = [process.name for process in table.all() if process.name not in _DAEMONS]
    table.stop_all(spawned)
    table.stop_all(["containerd"])
    if clean:
        (layout.containerd_content / "clean").touch()
    # What the control plane would save on its way out is deleted below: it need not take its time.
    table.stop_all([process.name for process in table.all()], grace=0)
    # containerd's helpers outlive it, and a killed daemon's children their parent.
    kill_all(table.descendants, f"what the daemons of {name} started")
    unmount_below(mount_roots(layout))
    cgroups.delete(name)
    network.delete(name)
    for path in shared_files(layout):
        path.unlink(missing_ok=True)
    for folder in (layout.run, layout.root):
        if folder.exists():
            shutil.rmtree(folder)
    if left := traces(name):
        raise DevkitError(f"{name} is down, but this is left of it: {', '.join(left)}; take it down again")


def _empty_containerd(layout: Layout) -> bool:
    """Let containerd forget its containers, so that its content can serve the next run; False when it will not."""
    try:
        Ctr(layout).remove_containers()
    except DevkitError:
        return False  # The content is thrown away on the next `up`; what matters now is to get everything stopped.
    return True


def remove_shared() -> None:
    """Remove the folders that instances make outside their own; once the last instance is gone."""
    for folder in _SHARED_FOLDERS:
        # Refused while anything is inside: then it is in use, or was not made by us.
        with contextlib.suppress(OSError):
            folder.rmdir()
