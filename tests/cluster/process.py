"""Runs the controller as a process."""

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
"""Includes the time until a Lease expires that an earlier controller did not release."""
STOP_SECONDS = 15.0
WORKER_IMAGE = "worker.example/image:of-the-release"
GATEWAY_NAMESPACE = "avatar-agent-system"
GATEWAY_NAME = "avatar-agent-gateway"


@dataclass
class RunningController:
    """A controller process."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    def log(self) -> list[dict[str, Any]]:
        """Return its log lines, except an incomplete last one."""
        return [json.loads(line) for line in self.log_file.read_text().split("\n")[:-1]]

    def logged_at(self, message: str, **facts: object) -> float | None:
        """Return when it first logged the message with these fields, as Unix time of its own clock; None: not yet."""
        times = [line["time"] for line in self.log() if line.items() >= {"message": message, **facts}.items()]
        return datetime.fromisoformat(times[0]).timestamp() if times else None

    def logged(self, message: str, **facts: object) -> float:
        """Return when it first logged the message with these fields, which it must have done by now."""
        at = self.logged_at(message, **facts)
        assert at is not None, f"not logged: {message}"
        return at

    async def metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        return await asyncio.to_thread(self._metric, name)

    async def reconciles(self, world: World, agent: str, times: int) -> None:
        """Wait for this many further reconciles of an agent, each caused by an event without effect."""
        for _ in range(times):
            before = await self.metric("avatar_agent_controller_reconciles_total")
            world.register_again(agent)

            async def reconciled(before: float = before) -> bool:
                return await self.metric("avatar_agent_controller_reconciles_total") > before

            await eventually(reconciled, f"{agent} is reconciled again")

    def unexpected(self) -> list[dict[str, Any]]:
        """Return its log lines that report an error."""
        return [line for line in self.log() if is_unexpected(line)]

    def stop(self) -> int:
        """Send SIGTERM and return its exit code; it must end in STOP_SECONDS."""
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
        """Whether it is the leader, and ready."""
        try:
            return self._metric("avatar_agent_controller_leading") == 1 and self.answers("/readyz") == 200
        except OSError:
            return False

    def answers(self, path: str) -> int:
        """Return the HTTP status of a GET; 0: no answer."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@contextmanager
def running(python: str, kubeconfig: Path, log: Path, namespace: str = "") -> Iterator[RunningController]:
    """Start a controller, wait until it is the leader, and stop it afterwards."""
    started = launch(python, kubeconfig, log, namespace)
    try:
        _wait_leading(started)
        yield started
    finally:
        started.stop()


def launch(python: str, kubeconfig: Path, log: Path, namespace: str = "", **variables: str) -> RunningController:
    """Start a controller for a namespace (empty: all), which contends for the release's Lease."""
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
