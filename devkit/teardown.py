"""Undo an instance: every process, mount, cgroup, link and folder that `up` made, whole or half made.

Everything is found by the instance's own name and records, in an order in which each part lets go of the next:
the kubelet before the pods (it would restart them), the pods before containerd, daemons before the network.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import time
from pathlib import Path

from devkit import cgroups, network
from devkit.errors import DevkitError
from devkit.instance import Layout
from devkit.mounts import unmount_below
from devkit.node import CONTAINERD_NAMESPACE, Ctr
from devkit.processes import is_alive, start_time

# Where the kubelet and the CNI library keep links and results whatever their configuration says.
_CONTAINER_LOGS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")
_KUBELET_FOLDERS = (Path("/var/lib/kubelet/device-plugins"), Path("/var/lib/kubelet"), _CONTAINER_LOGS)
_SHIM_BOUND = 10.0
_DAEMONS = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "coredns"}


def leftovers(name: str) -> bool:
    """Whether anything of an instance is on this machine."""
    layout = Layout(name)
    return layout.root.exists() or layout.run.exists() or network.exists(name)


def remove(name: str) -> None:
    """Remove an instance. May be repeated after an interruption."""
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
    _kill_shims(layout)
    unmount_below([layout.root, layout.run, layout.containerd_content])
    cgroups.delete(name)
    network.delete(name)
    _remove_traces(layout)
    for folder in (layout.run, layout.root):
        if folder.exists():
            shutil.rmtree(folder)


def _empty_containerd(layout: Layout) -> bool:
    """Let containerd forget its containers, so that its content can serve the next run; False when it will not."""
    try:
        Ctr(layout).remove_containers()
    except DevkitError:
        return False  # The content is thrown away on the next `up`; what matters now is to get everything stopped.
    return True


def shims(layout: Layout) -> list[int]:
    """containerd's helpers of this instance: they carry the path of its socket, which is nobody else's."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"shim" in words[0] and str(layout.containerd_socket).encode() in words:
            found.append(int(entry.name))
    return found


def shim_socket(layout: Layout, container: str) -> Path:
    """Where a helper listened: containerd's runtime/v2/shim SocketAddress hashes its address, namespace and the id."""
    digest = hashlib.sha256(f"{layout.containerd_socket}/{CONTAINERD_NAMESPACE}/{container}".encode())
    return Path("/run/containerd/s") / digest.hexdigest()


def _kill_shims(layout: Layout) -> None:
    deadline = time.monotonic() + _SHIM_BOUND
    while pids := [pid for pid in shims(layout) if start_time(pid) is not None]:
        if time.monotonic() > deadline:
            raise DevkitError(f"containerd's helpers {pids} do not end")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def _remove_traces(layout: Layout) -> None:
    """Links and results that name this instance, in folders that other clusters on the machine may share."""
    if _CONTAINER_LOGS.is_dir():
        for link in _CONTAINER_LOGS.iterdir():
            if link.is_symlink() and os.readlink(link).startswith(f"{layout.pod_logs}/"):
                link.unlink()
    for folder in _KUBELET_FOLDERS:
        # Refused while anything is inside: then it is in use, or was not made by our kubelet.
        with contextlib.suppress(OSError):
            folder.rmdir()
    network_name = f"avatar-agent-{layout.name}"
    for result in _CNI_RESULTS.glob(f"{network_name}-*-eth0"):
        container = result.name.removeprefix(f"{network_name}-").removesuffix("-eth0")
        for path in (result, *_CNI_RESULTS.glob(f"*-{container}-lo"), shim_socket(layout, container)):
            path.unlink(missing_ok=True)
