"""Stops parts of an instance for a while: the API server, as an upgrade does, and a node, as a lost machine.

It also cuts one pod off from LiveKit or from everything, and restarts LiveKit, for example with more settings.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from devkit import kubernetes, livekit, network
from devkit.errors import DevkitError
from devkit.instance import Layout, Record
from devkit.network import netns_name
from devkit.node import is_ready
from devkit.processes import Process

_STOP_SECONDS = 10.0
"""The API server waits for open requests, watches included."""
_START_TIMEOUT = 90.0


@contextmanager
def api_server_stopped(layout: Layout, record: Record, options: Sequence[str] = ()) -> Iterator[None]:
    """Stop the API server during the block; start it again afterwards, with more options and etcd's content."""
    table = layout.processes
    server = table.get("kube-apiserver")
    if server is None:
        raise DevkitError(
            f"instance {record.name} has no API server: run `python -m devkit up --name {record.name} --api-only`"
        )
    # Start it again with the same keys and certificates, so that all credentials stay valid.
    command = _command(server)
    table.stop(server, _STOP_SECONDS)
    try:
        yield
    finally:
        again = table.start("kube-apiserver", [*command, *options], netns=netns_name(record.name))
        table.wait("an API server", lambda: kubernetes.answers(layout, record), _START_TIMEOUT, again)


@contextmanager
def node_lost(layout: Layout, record: Record, number: int) -> Iterator[None]:
    """Kill a node's kubelet and cut its network off during the block; its pods run on, and nothing reaches them.

    The first node has the control plane, so it cannot be lost.
    """
    lost, table = layout.nodes[number - 1], layout.processes
    kubelet = table.get(lost.suffixed("kubelet"))
    if number == 1 or kubelet is None:
        raise DevkitError(f"instance {record.name} has no node {number} that can be lost: run `up` with `--nodes 2`")
    command = _command(kubelet)
    table.stop(kubelet, grace=0)
    network.disconnect_node(record.name, number)
    try:
        yield
    finally:
        network.connect_node(record.name, number, record.subnets)
        again = table.start(kubelet.name, command, netns=netns_name(lost.name))
        table.wait("a Ready node", lambda: is_ready(lost), _START_TIMEOUT, again)


@contextmanager
def livekit_cut(record: Record, address: str, *, reset: bool) -> Iterator[None]:
    """Cut a pod off from LiveKit's signal port during the block, as a firewall that forgets a connection does.

    The pod never learns of it. With `reset`, LiveKit does, as soon as it sends something. Media has another port.
    """
    try:
        network.cut_tcp(record.name, address, livekit.PORT, reset=reset)
        yield
    finally:
        network.connect_tcp(record.name, address, livekit.PORT, reset=reset)


@contextmanager
def pod_cut(record: Record, address: str) -> Iterator[None]:
    """Cut a pod of the first node off from everything during the block. Its connections stay open, without a packet."""
    try:
        network.cut_pod(record.name, address)
        yield
    finally:
        network.connect_pod(record.name, address)


def restart_livekit(layout: Layout, record: Record, seconds: float) -> None:
    """Kill LiveKit's server, and start it again after so many seconds. It loses all rooms, as on a real restart."""
    table = layout.processes
    server = table.get("livekit-server")
    if server is None:
        raise DevkitError(f"instance {record.name} has no LiveKit server: run `python -m devkit up`")
    command = _command(server)
    table.stop(server, grace=0)
    time.sleep(seconds)
    again = table.start(server.name, command, netns=netns_name(record.name))
    table.wait("a LiveKit server", lambda: livekit.answers(record), _START_TIMEOUT, again)


@contextmanager
def livekit_configured(layout: Layout, record: Record, settings: Mapping[str, object]) -> Iterator[None]:
    """Run LiveKit with more settings during the block. Two restarts, before and after, lose all rooms."""
    livekit.configure(layout, record, settings)
    try:
        restart_livekit(layout, record, 0)
        yield
    finally:
        livekit.configure(layout, record, {})
        restart_livekit(layout, record, 0)


def _command(process: Process) -> list[str]:
    return Path(f"/proc/{process.pid}/cmdline").read_text().rstrip("\0").split("\0")
