"""What a process used, and what it wrote to the API server."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_NOT_OBJECTS = {"leases", "events", "subjectaccessreviews", "tokenreviews"}
"""Written to hold the lease, to tell or to ask: not part of bringing an object about."""


def processor_seconds(pid: int) -> float:
    """User and system time so far: fields 14 and 15 of /proc/PID/stat (proc(5))."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_megabytes(pid: int) -> float:
    """The most memory it ever had resident: VmHWM of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


@dataclass(frozen=True, order=True)
class Written:
    """An object that was written to."""

    resource: str
    namespace: str
    name: str


def writes(audit: Path, user: str) -> Counter[Written]:
    """Requests of a user that write, by object, whatever the answer: out of the API server's audit log."""
    counts: Counter[Written] = Counter()
    with audit.open() as lines:
        for event in map(json.loads, lines):
            to = event["objectRef"]
            if event["user"]["username"] == user and to["resource"] not in _NOT_OBJECTS:
                counts[Written(to["resource"], to.get("namespace", ""), to.get("name", ""))] += 1
    return counts
