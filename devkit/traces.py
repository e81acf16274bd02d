"""Finds everything on this machine that belongs to an instance, by its name; `down` leaves none of it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from devkit import cgroups, network
from devkit.instance import Layout, NodeLayout
from devkit.mounts import mounts_below
from devkit.node import CONTAINERD_NAMESPACE
from devkit.processes import is_alive

# The kubelet and the CNI library use these folders whatever their configuration is.
CONTAINER_LOGS = Path("/var/log/containers")
CNI_RESULTS = Path("/var/lib/cni/results")
_SHIM_SOCKETS = Path("/run/containerd/s")


def traces(name: str) -> list[str]:
    """Return descriptions of everything that exists of an instance.

    Caches do not count: built programs, images and containerd's content survive `down`.
    """
    layout = Layout(name)
    recorded = {process.pid for process in layout.processes.all() if is_alive(process)}
    pids = recorded | layout.processes.descendants() | cgroups.members(name)
    mounts = mounts_below(mount_roots(layout), Path("/proc/self/mountinfo").read_text())
    return [
        *(f"process {pid}" for pid in sorted(pids)),
        *(f"mount {point}" for point in mounts),
        *(f"cgroup {folder}" for folder in cgroups.folders(name)),
        *network.traces(name),
        *(str(path) for path in (*shared_files(layout), *folders(layout)) if os.path.lexists(path)),
    ]


def folders(layout: Layout) -> list[Path]:
    """Return the folders that `down` deletes."""
    return [*(node.run for node in layout.nodes), layout.root]


def mount_roots(layout: Layout) -> list[Path]:
    """Return the folders below which an instance mounts file systems."""
    return [*folders(layout), *(node.containerd_content for node in layout.nodes)]


def shared_files(layout: Layout) -> Iterator[Path]:
    """Yield an instance's links, results and sockets in folders that it shares with other clusters."""
    for node in layout.nodes:
        yield from _shared_files(node)


def _shared_files(node: NodeLayout) -> Iterator[Path]:
    if CONTAINER_LOGS.is_dir():
        for link in CONTAINER_LOGS.iterdir():
            if link.is_symlink() and os.readlink(link).startswith(f"{node.pod_logs}/"):
                yield link
    network_name = network.netns_name(node.name)
    for result in list(CNI_RESULTS.glob(f"{network_name}-*-eth0")):
        container = result.name.removeprefix(f"{network_name}-").removesuffix("-eth0")
        if "-" in container:
            continue  # another instance, whose name begins with this one's
        yield from (result, *CNI_RESULTS.glob(f"*-{container}-lo"), _shim_socket(node, container))


def _shim_socket(node: NodeLayout, container: str) -> Path:
    """Return a shim's socket: containerd's SocketAddress (runtime/v2/shim) hashes address, namespace and id."""
    digest = hashlib.sha256(f"{node.containerd_socket}/{CONTAINERD_NAMESPACE}/{container}".encode())
    return _SHIM_SOCKETS / digest.hexdigest()
