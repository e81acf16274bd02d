"""The worker as a child process: configuration file, variables, log lines, and an end within bounds."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import aiohttp

from agentspec.wire import render
from avatar_agent.local.inputs import Inputs
from worker.config import CONFIG_VARIABLE, PORT_VARIABLE

ROOT: Final = Path(__file__).resolve().parent.parent.parent
"""The folder from which a worker imports this product."""
STOP_SECONDS: Final = 3.0
"""Time from SIGTERM to SIGKILL. A worker without a call ends in a second; a call in progress is cut."""
_POLL_SECONDS: Final = 0.1
_MAX_LINE_BYTES: Final = 1024 * 1024
_HIDDEN: Final = ("time", "level", "logger", "message", "exception", "agent", "agent_name")


def environment(inputs: Inputs, config_file: Path, folders: list[Path]) -> dict[str, str]:
    """Return the environment of a worker; `folders` are where own code is imported from, besides installed packages."""
    path = os.pathsep.join(str(folder) for folder in (ROOT, *folders))
    inherited = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    more = {CONFIG_VARIABLE: str(config_file), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    return inherited | dict(inputs.variables.values) | more


def write_config(inputs: Inputs, folder: Path) -> Path:
    """Store the configuration document in a file that only this user can read; returns its path."""
    handle, name = tempfile.mkstemp(dir=folder, suffix=".json")
    with os.fdopen(handle, "w") as file:
        file.write(render(inputs.config))
    return Path(name)


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def readable(line: bytes) -> str:
    """Return one JSON line of the worker's log as text; a line that is no JSON stays as it is."""
    text = line.decode(errors="replace").rstrip()
    try:
        record = json.loads(text)
        level, message = record["level"], record["message"]
    except (ValueError, KeyError, TypeError):
        return text
    fields = "".join(f" {name}={value}" for name, value in record.items() if name not in _HIDDEN)
    head = "" if level == "info" else f"{level}: "
    trace = f"\n{record['exception']}" if record.get("exception") else ""
    return f"{head}{message}{fields}{trace}"


class WorkerProcess:
    """One worker that was started."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, say: Callable[[str], None]) -> None:
        self._process = process
        self._port = port
        self._log = asyncio.create_task(self._follow(say))

    async def _follow(self, say: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than the limit
                continue
            if not line:
                return
            say(readable(line))

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for the end of the process; returns its exit status."""
        return await self._process.wait()

    async def wait_ready(self) -> bool:
        """Wait until LiveKit has registered the worker; returns false when the process ends before."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while self.is_running:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"http://127.0.0.1:{self._port}/readyz") as response:
                        if response.status == 200:
                            return True
                await asyncio.sleep(_POLL_SECONDS)
        return False

    async def stop(self) -> None:
        """End the process and its call processes: SIGTERM first, and SIGKILL for what is left after STOP_SECONDS."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._log.cancel()
        await asyncio.gather(self._log, return_exceptions=True)


async def start(variables: Mapping[str, str], say: Callable[[str], None]) -> WorkerProcess:
    """Start a worker in a process group of its own, so that Ctrl-C in the terminal does not reach it."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "worker",
        env={**variables, PORT_VARIABLE: str(port)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,  # own code may print
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        limit=_MAX_LINE_BYTES,
    )
    return WorkerProcess(process, port, say)
