"""Cost of a process: processor time, memory, and writes to the API server."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_NOT_OBJECTS = {"leases", "events", "subjectaccessreviews", "tokenreviews"}
"""Resources whose writes do not create or change a declared object or its children."""


def processor_seconds(pid: int) -> float:
    """Return user and system time so far: fields 14 and 15 of /proc/PID/stat (proc(5))."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_megabytes(pid: int) -> float:
    """Return the peak of resident memory in MiB: VmHWM of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


@dataclass(frozen=True, order=True)
class Written:
    """An object that a request wrote."""

    resource: str
    namespace: str
    name: str


def writes(audit: Path, user: str) -> Counter[Written]:
    """Count a user's write requests by object in the API server's audit log, failed ones included."""
    counts: Counter[Written] = Counter()
    with audit.open() as lines:
        for event in map(json.loads, lines):
            to = event["objectRef"]
            if event["user"]["username"] == user and to["resource"] not in _NOT_OBJECTS:
                counts[Written(to["resource"], to.get("namespace", ""), to.get("name", ""))] += 1
    return counts
