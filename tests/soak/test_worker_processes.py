"""The processes of a worker on the real node: it can be deleted at every moment of its start, and it may hang."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from devkit.demo.product import AGENTS_NAMESPACE, Product
from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

MOMENTS = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
"""Seconds after the container's start at which its pod is deleted."""
GONE_SECONDS = 15.0
"""The worker itself ends in less than 2 s; the kubelet and the API server need the rest on a busy node."""
REPLACED_SECONDS = 120.0
FREEZE = """
import os, signal
(main,) = open("/proc/1/task/1/children").read().split()
os.kill(int(main), signal.SIGSTOP)
"""


@contextmanager
def followed(product: Product, pod: str) -> Iterator[list[str]]:
    """Follow a pod's log until the pod is gone; its lines are in the list after the context."""
    command = [str(product.kubectl), f"--kubeconfig={product.kubeconfig}", "-n", AGENTS_NAMESPACE, "logs", "-f", pod]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield lines
        lines += process.communicate(timeout=60)[0].splitlines()


def container(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the status of the pod's only container; empty before the kubelet has reported it."""
    statuses: list[dict[str, Any]] = pod["status"].get("containerStatuses", [])
    return statuses[0] if statuses else {}


def started_worker(product: Product, agent: str) -> tuple[str, float] | None:
    """Return name and start, in Unix seconds, of a worker that runs and is not being deleted."""
    for pod in agents.workers(product, agent):
        running = container(pod).get("state", {}).get("running")
        if running and "deletionTimestamp" not in pod["metadata"]:
            return str(pod["metadata"]["name"]), datetime.fromisoformat(running["startedAt"]).timestamp()
    return None


def delete_at(product: Product, agent: str, moment: float) -> tuple[float, bool]:
    """Delete a worker so long after its start; return the seconds until it was gone, and whether it had registered."""
    name, started = eventually_blocking(lambda: started_worker(product, agent), "a worker has started", 90) or ("", 0.0)
    with followed(product, name) as lines:
        time.sleep(max(0.0, started + moment - time.time()))
        began = time.monotonic()
        options = ["--wait=true", f"--timeout={GONE_SECONDS:.0f}s"]
        product.kubectl_run("-n", AGENTS_NAMESPACE, "delete", "pod", name, *options, seconds=GONE_SECONDS + 10)
        seconds = time.monotonic() - began
    log = "\n".join(lines)
    assert log.count("registered with LiveKit") <= 1
    registered = "registered with LiveKit" in log
    assert registered == ("worker stopped" in log), "it drains when it has registered, and ends at once otherwise"
    return seconds, registered


def replacement(product: Product, agent: str, hanging: str) -> list[str]:
    """Return the agent's ready pods if none of them is the hanging process: its pod or its container was replaced."""
    serving = agents.serving(product, agent)
    if hanging in serving and not container(product.get("pod", hanging))["restartCount"]:
        return []
    return serving


@pytest.mark.timeout(900)
def test_worker_deleted_at_any_moment_of_its_start_is_gone(platform: Platform) -> None:
    product = platform.product
    declaration = agents.manifest(
        platform.targets,
        "leaving",
        worker={"callsPerWorker": 2, "maxCallMinutes": 60},
        scaling=agents.ONE_WORKER,
    )
    with agents.declared(product, declaration, ready=False) as agent:
        seen = {moment: delete_at(product, agent, moment) for moment in MOMENTS}
    for moment, (seconds, registered) in seen.items():
        print(f"deleted {moment:.1f} s after its start: gone after {seconds:.1f} s, registered: {registered}")
    assert not seen[MOMENTS[0]][1], "the first one cannot have registered"


@pytest.mark.timeout(400)
def test_worker_that_hangs_is_replaced_within_two_minutes(platform: Platform) -> None:
    product = platform.product
    declaration = agents.manifest(
        platform.targets,
        "hanging",
        worker={"callsPerWorker": 2, "maxCallMinutes": 60},
        scaling=agents.ONE_WORKER,
    )
    with agents.declared(product, declaration) as agent:
        (name,) = eventually_blocking(lambda: agents.serving(product, agent), "its pod is ready")
        product.kubectl_run("-n", AGENTS_NAMESPACE, "exec", name, "--", "python", "-c", FREEZE)
        began = time.monotonic()
        eventually_blocking(lambda: replacement(product, agent, name), "another process takes calls", REPLACED_SECONDS)
        print(f"a worker that hangs was replaced after {time.monotonic() - began:.0f} s")
