"""A job for call processes that tests start; imports nothing heavy, since each process imports it anew."""

import os
import signal

from livekit.agents import JobContext


async def die(_: JobContext) -> None:
    """End the process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
