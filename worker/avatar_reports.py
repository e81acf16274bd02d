"""Which calls of a worker have an avatar, and why the last one did not come.

An avatar lives in its call's process. The main process counts one for every job that it takes with an avatar, and the
call process tells it what becomes of it, by datagrams to a Unix socket: no connection, nothing that a call could wait
for. A job that is gone has no avatar, whatever was told of it: a killed process does not count for ever.
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
"""Environment variable by which call processes find the socket."""
MAX_PROBLEM_LENGTH: Final = 256


class AvatarState(StrEnum):
    """What became of a call's avatar."""

    CAME = "came"
    FAILED = "failed"
    """It did not come; its seat may still be taken."""
    GONE = "gone"
    """Its seat is free again."""


class _Told(Model):
    job_id: str = Field(max_length=128)
    fate: AvatarState
    problem: str = Field(default="", max_length=MAX_PROBLEM_LENGTH)


class Avatars:
    """The avatars of one worker's calls."""

    def __init__(self) -> None:
        self.problem = ""
        """Why the last avatar did not come, for a person; empty after one that came."""
        self._jobs: set[str] = set()

    def expect(self, job_id: str) -> None:
        """A job is being taken that will have an avatar."""
        self._jobs.add(job_id)

    def forget(self, job_id: str) -> None:
        """The job has no avatar, or none any more."""
        self._jobs.discard(job_id)

    def count(self, held: Collection[str]) -> int:
        """Avatars in use or being started, given the ids of the jobs that the worker holds."""
        return len(self._jobs.intersection(held))

    def note(self, job_id: str, fate: AvatarState, problem: str) -> None:
        """What a call process told."""
        match fate:
            case AvatarState.CAME:
                self.problem = ""
            case AvatarState.FAILED:
                self.problem = problem
            case AvatarState.GONE:
                self.forget(job_id)


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, avatars: Avatars) -> None:
        self._avatars = avatars

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            told = _Told.model_validate_json(data)
        except ValidationError:
            logger.warning("report of an avatar ignored: it is none", extra={"bytes": len(data)})
        else:
            self._avatars.note(told.job_id, told.fate, told.problem)


@asynccontextmanager
async def listening(avatars: Avatars) -> AsyncIterator[None]:
    """Hear, within the context, what the call processes that are started in it tell."""
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


def tell(job_id: str, fate: AvatarState, problem: str = "") -> None:
    """Tell the worker's main process, from a call process. Never waits; what is lost is put right by the job's end."""
    told = _Told(job_id=job_id, fate=fate, problem=problem[:MAX_PROBLEM_LENGTH])
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            channel.sendto(told.model_dump_json(by_alias=True).encode(), os.environ.get(SOCKET_VARIABLE, ""))
    except OSError as error:
        logger.warning("avatar's fate not told", extra={"fate": fate, "error": type(error).__name__})
