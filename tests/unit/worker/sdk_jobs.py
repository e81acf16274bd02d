"""Jobs for call processes that tests start; imports nothing heavy, since each process imports it anew."""

import os
import signal
import time

from livekit.agents import JobContext


async def die(_: JobContext) -> None:
    """End the process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


async def stay(_: JobContext) -> None:
    """Return; the job runs until the server ends it."""


async def hang(_: JobContext) -> None:
    """Block the event loop, so that the process answers nothing."""
    time.sleep(1000)  # noqa: ASYNC251


KEPT: list[bytearray] = []
GROWING_ROOM = "ornina-1"


async def grow(context: JobContext) -> None:
    """Take 192 MiB in one room, and next to nothing in all others."""
    if context.job.room.name == GROWING_ROOM:
        KEPT.append(bytearray(b"x" * (192 << 20)))
