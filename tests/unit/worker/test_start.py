"""A start of the whole worker, by the image's own command, in a process namespace as a container has one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from devkit.paths import REPOSITORY
from tests.unit.worker.fake_livekit import FakeLiveKit, fake_livekit
from tests.unit.worker.worker_process import process_group, processes_of, worker_environment
from tests.waiting import eventually_in_thread
from worker.config import PORT_VARIABLE

NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")
START_SECONDS = 60.0
END_SECONDS = 30.0
"""Generous, for a busy machine. A worker that did not hear the signal registers and never ends."""


def entrypoint(image: str) -> list[str]:
    """The command of an image, with this environment's programs."""
    text = re.search(r"^ENTRYPOINT (.*)$", (REPOSITORY / f"Dockerfile.{image}").read_text(), re.MULTILINE)
    assert text is not None
    programs = Path(sys.executable).parent
    return [str(programs / word) if (programs / word).is_file() else word for word in json.loads(text[1])]


@dataclass
class Starting:
    """A worker that starts in a namespace of its own."""

    session: int
    log: Path
    port: int
    """Of its HTTP endpoints."""

    def first(self) -> int:
        """The process that is process 1 of the namespace; 0: it does not exist yet."""
        children = Path(f"/proc/{self.session}/task/{self.session}/children").read_text().split()
        return int(children[0]) if children else 0

    def has_ended(self) -> bool:
        return not processes_of(self.session)


def python_starts(worker: Starting) -> bool:
    return any(_runs_python(pid) for pid in processes_of(worker.session))


def _runs_python(pid: int) -> bool:
    try:
        return os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(sys.executable)
    except OSError:
        return False


def imports_libraries(worker: Starting) -> bool:
    return any("/livekit/" in Path(f"/proc/{pid}/maps").read_text() for pid in processes_of(worker.session))


def event_loop_runs(worker: Starting) -> bool:
    return "worker starting" in worker.log.read_text()


def call_process_is_ready(worker: Starting) -> bool:
    return "process initialized" in worker.log.read_text()


@pytest.fixture
async def livekit() -> AsyncIterator[FakeLiveKit]:
    async with fake_livekit() as server:
        yield server


@asynccontextmanager
async def in_namespace(command: Sequence[str], environment: dict[str, str], log: Path) -> AsyncIterator[Starting]:
    if shutil.which(NAMESPACE[0]) is None or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:  # noqa: ASYNC221
        pytest.skip("this user cannot create a process namespace")
    async with process_group([*NAMESPACE, *command], environment, log) as session:
        yield Starting(session, log, int(environment.get(PORT_VARIABLE, "0")))


@asynccontextmanager
async def starting(livekit: FakeLiveKit, folder: Path) -> AsyncIterator[Starting]:
    async with in_namespace(entrypoint("worker"), worker_environment(folder, livekit.url), folder / "log") as worker:
        yield worker


@pytest.mark.parametrize("moment", [python_starts, imports_libraries, event_loop_runs, call_process_is_ready])
async def test_starting_worker_ends_at_sigterm(
    livekit: FakeLiveKit, tmp_path: Path, moment: Callable[[Starting], bool]
) -> None:
    livekit.accepts_registrations = False
    async with starting(livekit, tmp_path) as worker:
        await eventually_in_thread(lambda: moment(worker), moment.__name__, START_SECONDS)
        os.kill(worker.first(), signal.SIGTERM)
        await eventually_in_thread(worker.has_ended, "the worker and all its processes have ended", END_SECONDS)


async def test_controller_and_gateway_end_at_sigterm_before_they_handle_it(tmp_path: Path) -> None:
    """Their image runs any module as they run; this one never handles signals."""
    command = [*entrypoint("controller"), "http.server", "0", "--bind", "127.0.0.1"]
    async with in_namespace(command, dict(os.environ), tmp_path / "log") as program:
        await eventually_in_thread(lambda: python_starts(program), "the program has started", START_SECONDS)
        os.kill(program.first(), signal.SIGTERM)
        await eventually_in_thread(program.has_ended, "the program has ended", END_SECONDS)


async def test_registered_worker_drains_at_sigterm(livekit: FakeLiveKit, tmp_path: Path) -> None:
    async with starting(livekit, tmp_path) as worker:
        await eventually_in_thread(
            lambda: "registered with LiveKit" in worker.log.read_text(), "the worker has registered", START_SECONDS
        )
        os.kill(worker.first(), signal.SIGTERM)
        await eventually_in_thread(worker.has_ended, "the worker has ended", END_SECONDS)
        assert "worker stopped" in worker.log.read_text()


async def test_started_worker_serves_the_series_of_call_processes(livekit: FakeLiveKit, tmp_path: Path) -> None:
    async with starting(livekit, tmp_path) as worker, aiohttp.ClientSession() as client:
        await eventually_in_thread(lambda: call_process_is_ready(worker), "a call process is ready", START_SECONDS)
        async with client.get(f"http://127.0.0.1:{worker.port}/metrics") as response:
            series = (await response.text()).splitlines()
    assert "avatar_agent_worker_calls_started_total 0.0" in series
    assert 'avatar_agent_worker_call_processes{state="call"} 0.0' in series
    assert series.count('avatar_agent_worker_jobs_declined_total{reason="full"} 0.0') == 1
