"""Runs `bare_worker.py` beside the product: a worker that must get no call, or the peer in benchmarks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

_SCRIPT = Path(__file__).with_name("bare_worker.py")


@contextmanager
def bare_worker(platform: Platform, name: str, jobs: Path, greeting: str = "") -> Iterator[None]:
    """Run a worker with this agent name on the product's LiveKit server; `jobs` gets the room of every offered job."""
    log = jobs.with_suffix(".log")
    targets = platform.targets
    environment = os.environ | {
        "LIVEKIT_URL": targets.livekit_url,
        "LIVEKIT_API_KEY": targets.livekit_key,
        "LIVEKIT_API_SECRET": targets.livekit_secret,
        "OPENAI_BASE_URL": targets.openai_url,
        "OPENAI_API_KEY": targets.openai_key,
        "BARE_AGENT_NAME": name,
        "BARE_GREETING": greeting,
        "BARE_JOBS_FILE": str(jobs),
    }
    jobs.touch()
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, str(_SCRIPT)], env=environment, stdout=output, stderr=output)
    try:
        eventually_blocking(lambda: "registered worker" in log.read_text(), "the bare worker registered", 60)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
