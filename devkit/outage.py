"""Stops the API server for a while, as an upgrade of the control plane does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devkit import kubernetes
from devkit.errors import DevkitError
from devkit.instance import Layout, Record
from devkit.network import netns_name

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
    command = Path(f"/proc/{server.pid}/cmdline").read_text().rstrip("\0").split("\0")
    table.stop(server, _STOP_SECONDS)
    try:
        yield
    finally:
        again = table.start("kube-apiserver", [*command, *options], netns=netns_name(record.name))
        table.wait("an API server", lambda: kubernetes.answers(layout, record), _START_TIMEOUT, again)
