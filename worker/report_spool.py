"""The reports of ended calls that wait to be sent: one file each, in a folder that all processes of a worker know.

A call process adds its report, the main process sends and removes it (`worker.server.report_sender`). In a pod the
folder outlives a restart of the container, but not the pod.
"""

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Final

MAX_REPORT_BYTES: Final = 1024 * 1024
"""Longest report. `worker.call.call_record` leaves out the oldest turns of a longer one."""

_SUFFIX: Final = ".json"
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def folder_of(namespace: str, name: str) -> Path:
    """Return the folder of an agent's workers on this machine."""
    return Path(tempfile.gettempdir()) / "avatar-agent-reports" / f"{namespace}.{name}"


def add(folder: Path, job_id: str, report: str) -> None:
    """Add the report of a job; raises OSError, or ValueError when the job's id cannot name a file."""
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError("the job's id cannot name a file")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = folder / f"{job_id}.part"
    with open(unfinished, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(report)
    unfinished.rename(path_of(folder, job_id))


def path_of(folder: Path, job_id: str) -> Path:
    """Return where the report of a job waits."""
    return folder / f"{job_id}{_SUFFIX}"


def waiting(folder: Path) -> list[tuple[str, int]]:
    """Return the jobs whose reports wait and the size of each in bytes, the oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.stat().st_mtime, entry.name.removesuffix(_SUFFIX), entry.stat().st_size))
    return [(job_id, size) for _, job_id, size in sorted(found)]
