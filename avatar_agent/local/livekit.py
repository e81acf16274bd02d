"""A LiveKit server on this machine: `livekit-server --dev` from PATH, on free ports. Nothing is downloaded."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from avatar_agent.local.worker import free_port

KEY: Final = "devkey"
SECRET: Final = "secret"
"""The credentials of `livekit-server --dev`."""
START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.1
_PROGRAM: Final = "livekit-server"


class LiveKitError(Exception):
    """There is no server. The message says why, and what to do."""


def is_installed() -> bool:
    """Whether the program is on PATH."""
    return shutil.which(_PROGRAM) is not None


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """Run a server within the context; yields its URL. Raises LiveKitError."""
    port, tcp_port, udp_port = free_port(), free_port(), free_port()
    settings = f"port: {port}\nrtc: {{tcp_port: {tcp_port}, udp_port: {udp_port}}}\nlogging: {{level: warn}}\n"
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            _PROGRAM,
            "--dev",
            "--config-body",
            settings,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            if not await _answers(process, port):
                log.seek(0)
                last = log.read().decode(errors="replace").strip().splitlines()[-1:]
                raise LiveKitError(f"{_PROGRAM} did not start: {''.join(last)[:500] or 'no answer in time'}")
            yield f"ws://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _answers(process: asyncio.subprocess.Process, port: int) -> bool:
    """Wait until the server answers; returns false when it ends before or takes too long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
            while process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{port}/") as response:
                        return response.status == 200
                await asyncio.sleep(_POLL_SECONDS)
    return False
