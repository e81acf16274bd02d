"""Avatar reports: which calls of a worker have an avatar, and why the last avatar failed.

A call process holds the avatar of its call; the main process counts the avatars of all calls. It counts one for every
job that it accepts with an avatar. The call process then reports the avatar's state with datagrams to a Unix socket:
no connection, and nothing that a call could wait for. A job that has ended has no avatar, whatever the last report
said, so an avatar of a killed process is not counted for ever.
"""

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from agentspec.model import Model

logger = logging.getLogger(__name__)

SOCKET_VARIABLE: Final = "AVATAR_AGENT_AVATARS"
"""Environment variable that names the socket for call processes."""
MAX_ERROR_LENGTH: Final = 256
"""Characters of an error; the rest is cut."""


class AvatarState(StrEnum):
    """State of a call's avatar."""

    JOINED = "joined"
    FAILED = "failed"
    """It did not join; it may still hold its seat."""
    RELEASED = "released"
    """Its seat is free again."""


class AvatarReport(Model):
    """What a call process reports about its avatar."""

    job_id: str = Field(max_length=128)
    state: AvatarState
    error: str = Field(default="", max_length=MAX_ERROR_LENGTH)


class Avatars:
    """The avatars of one worker's calls."""

    def __init__(self) -> None:
        self.last_error = ""
        """Why the last avatar failed; empty after one that joined."""
        self._jobs: set[str] = set()

    def expect(self, job_id: str) -> None:
        """Count an avatar for a job that is being accepted."""
        self._jobs.add(job_id)

    def forget(self, job_id: str) -> None:
        """Stop counting the job's avatar; does nothing when it has none."""
        self._jobs.discard(job_id)

    def count(self, jobs: Collection[str]) -> int:
        """Return how many avatars are in use or starting, given the ids of the worker's jobs."""
        return len(self._jobs.intersection(jobs))

    def record(self, report: AvatarReport) -> None:
        """Apply a call process' report."""
        match report.state:
            case AvatarState.JOINED:
                self.last_error = ""
            case AvatarState.FAILED:
                self.last_error = report.error
            case AvatarState.RELEASED:
                self.forget(report.job_id)


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, avatars: Avatars) -> None:
        self._avatars = avatars

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            report = AvatarReport.model_validate_json(data)
        except ValidationError:
            logger.warning("invalid avatar report ignored", extra={"bytes": len(data)})
        else:
            self._avatars.record(report)


@asynccontextmanager
async def receive_reports(avatars: Avatars) -> AsyncIterator[None]:
    """Record, within the context, the reports of call processes that start within it."""
    with tempfile.TemporaryDirectory(prefix="avatar-agent-", ignore_cleanup_errors=True) as folder:
        path = str(Path(folder) / "avatars.sock")
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Receiver(avatars), local_addr=path, family=socket.AF_UNIX
        )
        os.environ[SOCKET_VARIABLE] = path
        try:
            yield
        finally:
            del os.environ[SOCKET_VARIABLE]
            transport.close()


def report(job_id: str, state: AvatarState, error: str = "") -> None:
    """Send a report to the worker's main process, from a call process.

    Never waits. The end of the job corrects the count when a report is lost.
    """
    message = AvatarReport(job_id=job_id, state=state, error=error[:MAX_ERROR_LENGTH])
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            channel.sendto(message.model_dump_json(by_alias=True).encode(), os.environ.get(SOCKET_VARIABLE, ""))
    except OSError as failure:
        logger.warning("avatar report not sent", extra={"state": state, "error": type(failure).__name__})
