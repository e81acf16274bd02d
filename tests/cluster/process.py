"""The controller as a process of its own."""

import asyncio
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cluster.world import World
from tests.logs import is_unexpected
from tests.ports import free_port
from tests.waiting import eventually, eventually_blocking

START_SECONDS = 60.0
"""A Lease that the one before could not let go of runs out first."""
STOP_SECONDS = 15.0
WORKER_IMAGE = "worker.example/image:of-the-release"
GATEWAY_NAMESPACE = "avatar-agent-system"
GATEWAY_NAME = "avatar-agent-gateway"


@dataclass
class RunningController:
    """A controller's process."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    def log(self) -> list[dict[str, Any]]:
        """What it logged, but for a line that is just being written, or was when it was killed."""
        return [json.loads(line) for line in self.log_file.read_text().split("\n")[:-1]]

    def logged(self, message: str, **facts: object) -> float:
        """When it first logged that (Unix time), by its own clock: no wait for it and no look at it counts."""
        times = [line["time"] for line in self.log() if line.items() >= {"message": message, **facts}.items()]
        assert times, f"not logged: {message}"
        return datetime.fromisoformat(times[0]).timestamp()

    async def metric(self, name: str) -> float:
        """Sum of a metric's samples."""
        return await asyncio.to_thread(self._metric, name)

    async def reconciles(self, world: World, agent: str, times: int) -> None:
        """Wait until the controller has looked at the agent so often again, each time because of nothing."""
        for _ in range(times):
            before = await self.metric("avatar_agent_controller_reconciles_total")
            world.register_again(agent)

            async def looked(before: float = before) -> bool:
                return await self.metric("avatar_agent_controller_reconciles_total") > before

            await eventually(looked, f"{agent} is reconciled again")

    def unexpected(self) -> list[dict[str, Any]]:
        """Return its log lines that report an error."""
        return [line for line in self.log() if is_unexpected(line)]

    def stop(self) -> int:
        """SIGTERM, and its exit code; it must end in STOP_SECONDS."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def _metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def leads(self) -> bool:
        """It is the one that works, and has seen everything there is."""
        try:
            return self._metric("avatar_agent_controller_leading") == 1 and self.answers("/readyz") == 200
        except OSError:
            return False

    def answers(self, path: str) -> int:
        """HTTP status of a GET; 0: no answer."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@contextmanager
def running(python: str, kubeconfig: Path, log: Path, namespace: str = "") -> Iterator[RunningController]:
    """Start a controller, wait until it leads, and stop it afterwards."""
    started = launch(python, kubeconfig, log, namespace)
    try:
        _wait_leading(started)
        yield started
    finally:
        started.stop()


def launch(python: str, kubeconfig: Path, log: Path, namespace: str = "", **variables: str) -> RunningController:
    """Start a controller that serves a namespace (empty: all) and candidates for the installation's Lease."""
    port = free_port()
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "WORKER_IMAGE": WORKER_IMAGE,
        "WATCH_NAMESPACE": namespace,
        "LEASE_NAMESPACE": GATEWAY_NAMESPACE,
        "GATEWAY_SERVICE_ACCOUNT": f"system:serviceaccount:{GATEWAY_NAMESPACE}:{GATEWAY_NAME}",
        "HTTP_PORT": str(port),
        **variables,
    }
    with log.open("wb") as output:
        process = subprocess.Popen([python, "-m", "controller"], env=environment, stderr=output)
    return RunningController(process, f"http://127.0.0.1:{port}", log)


def _wait_leading(started: RunningController) -> None:
    def leads_or_ended() -> bool:
        return started.leads() or started.process.poll() is not None

    try:
        eventually_blocking(leads_or_ended, "the controller leads", START_SECONDS)
        assert started.process.poll() is None, "the controller ended"
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{started.log_file.read_text()}") from None
