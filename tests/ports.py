"""Ports for tests."""

import socket


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 without a listener, for a server or for an unreachable address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
