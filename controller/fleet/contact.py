"""Connection attempts to workers, which tell an ended process from one that hangs."""

import asyncio
import socket
from typing import Final

from aiohttp import AddrInfoType

from controller.policy.lost_workers import Contact

KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3))
"""Options of TCP connections to workers: a connection that was cut silently, as when a node is lost, ends within 5 s.

The kernel answers these probes for a process that hangs.
"""


async def contact(address: str, port: int, seconds: float) -> Contact:
    """Connect to a worker, for at most `seconds`, and close the connection."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return Contact.REFUSED
    except (TimeoutError, OSError):
        return Contact.NONE
    writer.transport.abort()
    return Contact.ACCEPTED


def socket_with_keepalive(address: AddrInfoType) -> socket.socket:
    """Create a socket for a connection to a worker."""
    family, kind, protocol, *_ = address
    created = socket.socket(family, kind, protocol)
    created.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        created.setsockopt(socket.IPPROTO_TCP, option, value)
    return created
