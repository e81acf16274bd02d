"""Kills a worker as the kernel does when memory is short."""

import os
import signal
from pathlib import Path
from typing import Any

from devkit import cgroups


def kill_worker(instance: str, pod: dict[str, Any]) -> None:
    """Kill a worker's main process, and with it all processes of its container."""
    os.kill(_first_process(instance, pod["metadata"]["uid"]), signal.SIGKILL)


def _first_process(instance: str, uid: str) -> int:
    """Return the pid, on this machine, of process 1 of the pod's container, which is not its pause container."""
    found = {
        int(line)
        for folder in cgroups.folders(instance)
        if f"pod{uid}" in str(folder)
        for line in (folder / "cgroup.procs").read_text().split()
    }
    (pid,) = [pid for pid in found if _is_first(pid) and b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return pid


def _is_first(pid: int) -> bool:
    """Whether a process has the pid 1 in its own namespace."""
    status = Path(f"/proc/{pid}/status").read_text()
    (pids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
    return pids[-1] == "1"
