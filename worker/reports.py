"""Reports of call processes to the main process of their worker.

A report is a small document that a call process sends as one datagram to a Unix socket: no connection, and nothing that
a call could wait for. A report can be lost, so whoever counts by reports needs another way to notice the end of a job.
"""

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from agentspec.model import Model

logger = logging.getLogger(__name__)

SOCKET_VARIABLE: Final = "AVATAR_AGENT_REPORTS"
"""Environment variable that names the socket for call processes."""

Handlers = Mapping[type[Model], Callable[[Any], None]]
"""What to do with each type of report."""


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, handlers: Handlers) -> None:
        self._handlers = {kind.__name__: (kind, handler) for kind, handler in handlers.items()}

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            ((name, document),) = from_json(data).items()
            kind, handler = self._handlers[name]
            report = kind.model_validate(document)
        except (ValueError, AttributeError, KeyError, ValidationError):
            logger.warning("invalid report ignored", extra={"bytes": len(data)})
        else:
            handler(report)


@asynccontextmanager
async def receive(handlers: Handlers) -> AsyncIterator[None]:
    """Handle, within the context, the reports of call processes that start within it."""
    with tempfile.TemporaryDirectory(prefix="avatar-agent-", ignore_cleanup_errors=True) as folder:
        path = str(Path(folder) / "reports.sock")
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Receiver(handlers), local_addr=path, family=socket.AF_UNIX
        )
        os.environ[SOCKET_VARIABLE] = path
        try:
            yield
        finally:
            del os.environ[SOCKET_VARIABLE]
            transport.close()


def send(report: Model) -> None:
    """Send a report to the worker's main process, from a call process. Never waits."""
    kind = type(report).__name__
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            channel.sendto(to_json({kind: report}, by_alias=True), os.environ.get(SOCKET_VARIABLE, ""))
    except OSError as error:
        logger.warning("report not sent", extra={"report": kind, "error": type(error).__name__})
