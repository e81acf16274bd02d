"""Runs the whole worker, ``python -m worker``, as a process of this machine."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.ports import free_port
from tests.unit.worker.builders import DOCUMENT
from worker.config import CONFIG_VARIABLE, PORT_VARIABLE

_TICKS = os.sysconf("SC_CLK_TCK")
_SECRETS = {
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": "secret-of-at-least-thirty-two-characters",
    "OPENAI_API_KEY": "openai-key",
}


def worker_environment(folder: Path, livekit_url: str, **changes: object) -> dict[str, str]:
    """Return the environment of a worker whose files are in `folder`. Its providers refuse connections.

    `changes`: of its configuration.
    """
    voice = {"openai": {"baseURL": f"http://127.0.0.1:{free_port()}/v1", "credentialsSecretRef": {"name": "openai"}}}
    config = folder / "config.json"
    config.write_text(json.dumps(DOCUMENT | {"livekitURL": livekit_url, "voice": voice} | changes))
    metrics = folder / "metrics"
    return os.environ | _SECRETS | {
        CONFIG_VARIABLE: str(config),
        PORT_VARIABLE: str(free_port()),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


@asynccontextmanager
async def process_group(command: Sequence[str], environment: dict[str, str], log: Path) -> AsyncIterator[int]:
    """Run a command in a session of its own, and kill all its processes at the end; yields its process id."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


WORKER_COMMAND = (sys.executable, "-m", "worker")


def processes_of(session: int) -> dict[int, float]:
    """Return the processor seconds of each running process of a session, by process id, ended children included.

    Sources: fields 6 and 14 to 17 of /proc/PID/stat (proc(5)).
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue
        fields = text[text.rindex(")") + 2 :].split()
        if int(fields[3]) == session and fields[0] != "Z":
            found[int(folder.name)] = sum(map(int, fields[11:15])) / _TICKS
    return found


def proportional_megabytes(pid: int) -> float:
    """Return the memory of a process in MiB, with its share of the pages that several processes use; 0: it has ended.

    Source: Pss in /proc/PID/smaps_rollup (proc(5)).
    """
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
    return 0.0
