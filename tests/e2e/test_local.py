"""`avatar-agent dev` and `avatar-agent check` on this machine, with a real LiveKit server and the simulated OpenAI.

These tests need no node: everything runs on loopback.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devkit import binaries, probe
from devkit.demo.caller import call
from devkit.paths import REPOSITORY
from devkit.progress import LogProgress
from devkit.tools import LIVEKIT
from tests.waiting import eventually

KEY = "simulated-key-of-this-test"
START_SECONDS = 100.0
STOP_SECONDS = 60.0
FIRST, SECOND = "Good morning, this is the flower shop.", "Good evening, the flower shop is closed."
CHECKS = [
    *("manifest", "secrets", "knowledge", "credentials LiveKit", "credentials OpenAI", "code"),
    *("voice stt", "voice llm", "voice tts"),
]
CODE = """\
from avatar_agent import CallContext
from livekit.agents import Agent


class Florist(Agent):
    def __init__(self, call: CallContext) -> None:
        super().__init__(instructions=call.instructions)
"""


def manifest(openai: str, greeting: str) -> str:
    return f"""\
apiVersion: avataragents.io/v1alpha1
kind: AvatarAgent
metadata: {{name: florist}}
spec:
  livekit: {{url: wss://livekit.example, credentialsSecretRef: {{name: livekit}}}}
  voice: {{openai: {{baseURL: "{openai}", credentialsSecretRef: {{name: openai}}}}}}
  persona: {{greeting: "{greeting}"}}
  worker: {{agent: "flowers:Florist", callsPerWorker: 1}}
"""


@dataclass
class Command:
    """A running command of `avatar-agent`, and what it has printed."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def line(self, words: str) -> str:
        """Return the next line that contains these words."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                while line := (await self.process.stdout.readline()).decode().rstrip():
                    self.lines.append(line)
                    if words in line:
                        return line
        except TimeoutError:
            pass
        raise AssertionError("\n".join([f"no line with {words!r} in:", *self.lines]))


async def command(*arguments: str, variables: Mapping[str, str]) -> Command:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **variables}
    return Command(
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "avatar_agent", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
        )
    )


async def verdicts(path: Path, livekit: str, key: str) -> tuple[int | None, dict[str, str]]:
    """Run `check`; return its exit status, and the outcome of each check."""
    variables = {"OPENAI_API_KEY": key, "LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "secret"}
    running = await command("check", str(path), "--livekit-url", livekit, "--json", variables=variables)
    output, _ = await asyncio.wait_for(running.process.communicate(), START_SECONDS)
    found: list[dict[str, Any]] = json.loads(output)
    return running.process.returncode, {verdict["check"]: verdict["outcome"] for verdict in found}


@asynccontextmanager
async def simulated_openai(folder: Path) -> AsyncIterator[str]:
    """Run the simulated OpenAI within the context; yields its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (folder / "openai.key").write_text(KEY)
    arguments = ["--port", str(port), "--api-key-file", str(folder / "openai.key")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "devkit.providers.openai", *arguments, cwd=REPOSITORY, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                if await asyncio.to_thread(probe.answers, f"http://127.0.0.1:{port}/healthz"):
                    break
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        await process.wait()


async def check_greeting(page: str, greeting: str) -> None:
    """Call the agent as its page does, and check the caption of the first words."""
    address, _, agent = page.partition("/?agent=")
    async with await call(address, agent, "A caller", language="en") as caller:
        await caller.first_word(30)

        async def is_said() -> bool:
            return " ".join(caller.captions) == greeting

        await eventually(is_said, f"the agent says {greeting!r}")


@pytest.fixture
def temporary() -> Iterator[str]:
    """A folder for temporary files with a short path: sockets are in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@pytest.mark.timeout(300)
async def test_dev_reloads_and_check_judges_without_kubernetes(tmp_path: Path, temporary: str) -> None:
    livekit = Path(binaries.ensure(LogProgress(), [LIVEKIT])["livekit-server"])
    path, code = tmp_path / "florist.yaml", tmp_path / "flowers.py"
    code.write_text(CODE)
    async with simulated_openai(tmp_path) as openai:
        path.write_text(manifest(openai, FIRST))
        variables = {
            "OPENAI_API_KEY": KEY,
            "TMPDIR": temporary,
            "PATH": f"{livekit.parent}{os.pathsep}{os.environ['PATH']}",
        }
        running = await command("dev", str(path), "--port", "0", "--no-browser", variables=variables)
        try:
            server = (await running.line("LiveKit: ")).split()[1].rstrip(",")
            page = (await running.line("ready: ")).split()[1]
            await check_greeting(page, FIRST)

            assert await verdicts(path, server, KEY) == (0, dict.fromkeys(CHECKS, "passed"))
            status, found = await verdicts(path, server, "another-key")
            assert status == 1
            failed = {check for check, outcome in found.items() if outcome == "failed"}
            assert failed == {"credentials OpenAI", "voice stt", "voice llm", "voice tts"}

            path.write_text(manifest(openai, SECOND))
            assert (await running.line("ready: ")).split()[1] == page
            await check_greeting(page, SECOND)

            path.write_text(manifest(openai, FIRST).replace("callsPerWorker: 1", "callsPerWorker: 0"))
            await running.line("not reloaded, the last valid version runs on")
            await running.line("spec.worker.callsPerWorker: should be greater than or equal to 1")
            path.write_text(manifest(openai, SECOND))
            code.write_text(CODE + 'raise RuntimeError("no flowers today")\n')
            await running.line("RuntimeError: no flowers today (flowers.py, line 8)")
        finally:
            running.process.send_signal(signal.SIGINT)
            await asyncio.wait_for(running.process.communicate(), STOP_SECONDS)
    assert running.process.returncode == 0
    assert os.listdir(temporary) == [], "nothing is left of workers that were killed"
    assert not probe.answers(server.replace("ws:", "http:")), "the LiveKit server has ended"
