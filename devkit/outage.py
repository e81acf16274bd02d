"""Takes the API server away from everybody for a while, as an upgrade of the control plane does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devkit import kubernetes
from devkit.errors import DevkitError
from devkit.instance import Layout, Record
from devkit.network import netns_name

# It waits for open requests, watches included; in seconds.
_STOP_GRACE = 10.0
_START_BOUND = 90.0


@contextmanager
def api_server_stopped(layout: Layout, record: Record, options: Sequence[str] = ()) -> Iterator[None]:
    """The API server, and only it, is down meanwhile; afterwards it serves again what etcd kept, with these options."""
    table = layout.processes
    server = table.get("kube-apiserver")
    if server is None:
        raise DevkitError(f"{record.name} has no API server: `python -m devkit up --name {record.name} --api-only`")
    # As it was started: its keys and certificates stay, so that everybody's credentials do.
    command = Path(f"/proc/{server.pid}/cmdline").read_text().rstrip("\0").split("\0")
    table.stop(server, _STOP_GRACE)
    try:
        yield
    finally:
        again = table.start("kube-apiserver", [*command, *options], netns=netns_name(record.name))
        table.wait("an API server", lambda: kubernetes.answers(layout, record), _START_BOUND, again)
