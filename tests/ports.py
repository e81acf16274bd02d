"""Ports for tests."""

import contextlib
import secrets
import socket

_PORTS = range(20_000, 32_000)
"""Linux assigns none of these by itself (`ip_local_port_range` begins at 32768). It could assign another port again
before a process that takes seconds to start listens on it.
"""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 without a listener, for a server or for an unreachable address."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
