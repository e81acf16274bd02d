"""Sends signals to the processes of a pod, as the kernel does when memory is short."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devkit import cgroups


def kill_worker(instance: str, pod: dict[str, Any]) -> None:
    """Kill a worker's main process, and with it all processes of its container."""
    kill(instance, pod, "worker")


def kill(instance: str, pod: dict[str, Any], program: str) -> None:
    """Kill process 1 of the pod's container that runs a program, and with it all processes of the container."""
    (pid,) = [pid for pid in _processes(instance, pod, program) if _is_first(pid)]
    os.kill(pid, signal.SIGKILL)


def freeze(instance: str, pod: dict[str, Any], program: str) -> None:
    """Stop the pod's processes of a program where they are."""
    for pid in _processes(instance, pod, program):
        os.kill(pid, signal.SIGSTOP)


def resume(instance: str, pod: dict[str, Any], program: str) -> None:
    """Let the processes that `freeze` stopped continue."""
    for pid in _processes(instance, pod, program):
        os.kill(pid, signal.SIGCONT)


def _processes(instance: str, pod: dict[str, Any], program: str) -> Iterator[int]:
    """Yield the pids, on this machine, of the pod's processes with a word in their command: the program's and init."""
    found = {
        int(line)
        for folder in cgroups.pod_folders(instance, pod["metadata"]["uid"])
        for line in (folder / "cgroup.procs").read_text().split()
    }
    yield from (pid for pid in sorted(found) if program.encode() in Path(f"/proc/{pid}/cmdline").read_bytes())


def _is_first(pid: int) -> bool:
    """Whether a process has the pid 1 in its own namespace."""
    status = Path(f"/proc/{pid}/status").read_text()
    (pids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
    return pids[-1] == "1"
