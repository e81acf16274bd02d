"""Whole workers with own code: an agent class that cannot be used, and a whole program in place of the stock agent."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from livekit.agents import JobContext

from avatar_agent import serve
from devkit.paths import REPOSITORY
from tests.unit.worker.builders import make_config
from tests.unit.worker.fake_livekit import FakeLiveKit, fake_livekit
from tests.unit.worker.worker_process import WORKER_COMMAND, process_group, worker_environment
from tests.waiting import eventually_in_thread
from worker.config import PORT_VARIABLE
from worker.server import broken_code

START_SECONDS = 100.0
END_SECONDS = 100.0

pytestmark = pytest.mark.timeout(300)

PROGRAM = """
import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from livekit.agents import AgentSession, JobContext, JobProcess

from avatar_agent import call_context, serve

FOLDER = Path(sys.argv[1])


def prewarm(process: JobProcess) -> None:
    process.userdata["menu"] = "soup"


async def entrypoint(context: JobContext) -> None:
    call = dataclasses.asdict(call_context(context)) | {"menu": context.proc.userdata["menu"]}
    (FOLDER / "call.json").write_text(json.dumps(call, default=str))
    while not (FOLDER / "hang-up").exists():
        await asyncio.sleep(0.05)
    context.shutdown("done")


if __name__ == "__main__":
    serve(entrypoint, prewarm=prewarm)
"""


@pytest.fixture
async def livekit() -> AsyncIterator[FakeLiveKit]:
    async with fake_livekit() as server:
        yield server


async def get(port: str, path: str) -> tuple[int, str]:
    """Return status and text of the worker's answer; 0 while it does not listen yet."""
    try:
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def test_worker_with_broken_code_stays_up_and_says_why(livekit: FakeLiveKit, tmp_path: Path) -> None:
    environment = worker_environment(tmp_path, livekit.url, agentCode="shop:Assistant", secretVariables=["MENU"])
    environment |= {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "MENU": "s3cret-m3nu"}
    (tmp_path / "shop.py").write_text("import os\nraise ValueError(os.environ['MENU'])\n")
    port, log = environment[PORT_VARIABLE], tmp_path / "log"
    async with process_group(WORKER_COMMAND, environment, log):
        await eventually_in_thread(lambda: "own code failed" in log.read_text(), "the code was checked", START_SECONDS)
        await eventually_in_thread(lambda: _listens(port), "the worker answers", START_SECONDS)
        status = json.loads((await get(port, "/status"))[1])
        assert (status["registered"], status["agentName"], status["calls"]) == (False, "ornina-avatar-agent", 0)
        assert status["codeFailure"] == "ValueError: [redacted] (shop.py, line 2)"
        assert (await get(port, "/livez"))[0] == 200, "Kubernetes does not restart it"
        code, reason = await get(port, "/readyz")
        assert (code, "own code" in reason) == (503, True)
        assert "avatar_agent_worker_registered 0.0" in (await get(port, "/metrics"))[1]
    assert livekit.registrations == []
    assert "s3cret-m3nu" not in log.read_text()


async def test_own_code_is_imported_once_for_all_calls(livekit: FakeLiveKit, tmp_path: Path) -> None:
    """Once to check it, and once in the fork server, from which call processes have it."""
    (tmp_path / "shop.py").write_text(
        "import os\nfrom livekit.agents import Agent\nprint('shop-imported', os.getpid())\n"
        "class Assistant(Agent):\n    def __init__(self): super().__init__(instructions='x')\n"
    )
    environment = worker_environment(tmp_path, livekit.url, agentCode="shop:Assistant")
    environment |= {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}"}
    log = tmp_path / "log"
    async with process_group(WORKER_COMMAND, environment, log):
        ready = lambda: log.read_text().count("process initialized") >= 2  # noqa: E731
        await eventually_in_thread(ready, "two call processes are ready", START_SECONDS)
        await eventually_in_thread(lambda: bool(livekit.registrations), "the worker registers", START_SECONDS)
    imports = [line for line in log.read_text().splitlines() if "shop-imported" in line]
    assert len(imports) == 2, imports


def _listens(port: str) -> bool:
    return subprocess.run(["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{port}/livez"]).returncode == 0


async def test_broken_code_is_checked_until_it_can_be_used() -> None:
    verdicts = ["KeyError: 'MENU'", ""]

    async def check() -> str:
        return verdicts.pop(0)

    assert await broken_code.serve(make_config(), 0, "ValueError", seconds=0.01, check=check) == 0
    assert verdicts == []


async def test_new_check_sees_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = worker_environment(tmp_path, "ws://livekit.test", agentCode="shop:make", secretVariables=["MENU"])
    for name, value in (environment | {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "MENU": "s3cret-m3nu"}).items():
        monkeypatch.setenv(name, value)
    agent = "from livekit.agents import Agent\nprint('imported')\ndef make(): return Agent(instructions='x')\n"
    (tmp_path / "shop.py").write_text("import os\nraise ValueError(os.environ['MENU'])\n")
    assert await broken_code.check_again() == "ValueError: [redacted] (shop.py, line 2)"
    (tmp_path / "shop.py").write_text(agent)
    assert await broken_code.check_again() == ""


async def test_tools_of_manifest_and_code_need_different_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = [{"name": "end_call", "endCall": {}}, {"name": "shop", "mcp": {"url": "http://shop.test/mcp"}}]
    environment = worker_environment(tmp_path, "ws://livekit.test", agentCode="shop:make", tools=tools)
    for name, value in (environment | {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}"}).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "shop.py").write_text(
        "from livekit.agents import Agent, function_tool\n"
        "@function_tool\nasync def shop() -> None: ...\n"
        "@function_tool\nasync def end_call() -> None: ...\n"
        "def make(): return Agent(instructions='x', tools=[shop, end_call])\n"
    )
    failure = await broken_code.check_again()
    assert failure == "the agent and spec.tools both have a tool named end_call: rename one of them"


def test_restart_runs_the_same_command() -> None:
    script = (
        "import os, sys\nfrom worker.server import broken_code\n"
        "if os.environ.pop('FIRST', ''): broken_code.restart()\nprint(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "a b"],
        env=os.environ | {"FIRST": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['a b']\n"


async def test_whole_program_answers_calls_of_a_worker(livekit: FakeLiveKit, tmp_path: Path) -> None:
    program, log = tmp_path / "program.py", tmp_path / "log"
    program.write_text(PROGRAM)
    environment = worker_environment(tmp_path, livekit.url, settings={"shop": 7})
    environment |= {"PYTHONPATH": str(REPOSITORY)}
    port, command = environment[PORT_VARIABLE], [sys.executable, str(program), str(tmp_path)]
    async with process_group(command, environment, log) as pid:
        await eventually_in_thread(lambda: "registered with LiveKit" in log.read_text(), "registered", START_SECONDS)
        await eventually_in_thread(lambda: "process initialized" in log.read_text(), "prewarmed", START_SECONDS)
        (registration,) = livekit.registrations
        assert registration.agent_name == "ornina-avatar-agent"
        metadata = json.dumps({"callID": "c1", "metadata": {"plan": "gold"}})
        await livekit.offer("AJ_1", "ornina-1", metadata)
        answered = tmp_path / "call.json"
        await eventually_in_thread(answered.exists, "the entrypoint runs", START_SECONDS)
        call: dict[str, Any] = json.loads(answered.read_text())
        assert (call["call_id"], call["room"], call["menu"]) == ("c1", "ornina-1", "soup")
        assert (call["facts"], call["settings"]) == ({"plan": "gold"}, {"shop": 7})
        status = json.loads((await get(port, "/status"))[1])
        assert (status["registered"], status["slots"], status["calls"]) == (True, 4, 1)
        os.kill(pid, signal.SIGTERM)
        await eventually_in_thread(lambda: '"draining' in log.read_text(), "the worker drains", END_SECONDS)
        assert json.loads((await get(port, "/status"))[1])["calls"] == 1, "a drain cuts no call"
        (tmp_path / "hang-up").touch()
        await eventually_in_thread(lambda: "worker stopped" in log.read_text(), "the worker ended", END_SECONDS)
    line = next(json.loads(line) for line in log.read_text().splitlines() if "call ended" in line)
    assert (line["outcome"], line["call_id"], line["room"]) == ("agent_ended", "c1", "ornina-1")
    assert re.search('"Traceback|"exception"', log.read_text()) is None


async def answer(_: JobContext) -> None: ...


def plain(_: JobContext) -> None: ...


def test_functions_that_call_processes_cannot_import_are_refused() -> None:
    async def inner(_: JobContext) -> None: ...

    with pytest.raises(TypeError, match="top-level functions"):
        serve(inner)
    with pytest.raises(TypeError, match="top-level functions"):
        serve(answer, prewarm=lambda _: None)
    with pytest.raises(TypeError, match="no async function"):
        serve(plain)  # type: ignore[arg-type]
