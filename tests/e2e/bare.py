"""Runs `bare_worker.py` beside the product: a worker that must get no call, or the peer in benchmarks."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from livekit import api

from devkit.demo.caller import Caller, Moments
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

_SCRIPT = Path(__file__).with_name("bare_worker.py")
_START_SECONDS = 180
"""It loads two models for 15 s, and longer beside another worker that starts."""
_STOP_SECONDS = 20


@contextmanager
def bare_worker(
    platform: Platform,
    name: str,
    jobs: Path,
    greeting: str = "",
    *,
    language: str = "ar",
    instructions: str = "You are a voice assistant.",
    registered: bool = True,
) -> Iterator[int]:
    """Run a worker with this agent name on the product's LiveKit server; `jobs` gets the room of every offered job.

    Yields the session of the worker's processes, as ps(1) shows it, once the worker is registered. With `registered`
    False, `wait_registered` waits for that.
    """
    log = _log(jobs)
    targets = platform.targets
    environment = os.environ | {
        "LIVEKIT_URL": targets.livekit_url,
        "LIVEKIT_API_KEY": targets.livekit_key,
        "LIVEKIT_API_SECRET": targets.livekit_secret,
        "OPENAI_BASE_URL": targets.openai_url,
        "OPENAI_API_KEY": targets.openai_key,
        "BARE_AGENT_NAME": name,
        "BARE_GREETING": greeting,
        "BARE_LANGUAGE": language,
        "BARE_INSTRUCTIONS": instructions,
        "BARE_JOBS_FILE": str(jobs),
    }
    jobs.touch()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(_SCRIPT)], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        if registered:
            wait_registered(jobs)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:  # it waits for its jobs, however long a job tries to reach a closed room
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_registered(jobs: Path) -> None:
    """Wait until the worker with this file of jobs is registered."""
    eventually_blocking(
        lambda: "registered worker" in _log(jobs).read_text(), "a bare worker registered", _START_SECONDS
    )


def _log(jobs: Path) -> Path:
    return jobs.with_suffix(".log")


async def bare_call(platform: Platform, agent_name: str) -> Caller:
    """Do what a hand-written back end does: create a room with a dispatch to the agent name, then a token."""
    targets, room = platform.targets, f"bare-{uuid.uuid4().hex[:8]}"
    moments = Moments(requested=monotonic())
    async with api.LiveKitAPI(targets.livekit_url, targets.livekit_key, targets.livekit_secret) as livekit:
        dispatch = api.RoomAgentDispatch(agent_name=agent_name)
        await livekit.room.create_room(api.CreateRoomRequest(name=room, agents=[dispatch], empty_timeout=30))
    grants = api.VideoGrants(room_join=True, room=room)
    token = (
        api.AccessToken(targets.livekit_key, targets.livekit_secret)
        .with_identity("caller")
        .with_grants(grants)
        .to_jwt()
    )
    moments.opened = monotonic()
    return Caller("Caller", targets.livekit_url, token, moments)
