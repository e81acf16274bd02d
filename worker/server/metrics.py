"""Prometheus series of a worker: its own, and those of its call processes.

The main process counts in memory. Call processes write to files in PROMETHEUS_MULTIPROC_DIR (prometheus-client's
multiprocess mode), and a scrape reads both. Each call has a process of its own. So the files of ended processes are
merged into one file per type; otherwise thousands of calls would leave thousands of files. For that, this module uses
MmapedDict and the file names of prometheus-client 0.26, which are not documented; test_metrics.py covers both.

PROMETHEUS_MULTIPROC_DIR must not be set when the main process imports prometheus_client: livekit-agents empties the
directory when it starts, and would delete files that are already open.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from process.health import exposition_of
from process.metrics import ProcessMetrics, prefix_of
from worker.server.admission import Declined

PREFIX: Final = prefix_of("worker")
_MERGED: Final = "merged"

_registry = CollectorRegistry()

PROCESS = ProcessMetrics("worker", _registry)
"""Figures of the main process."""
SLOTS = Gauge(PREFIX + "slots", "Calls that the worker can hold at once.", registry=_registry)
CALLS = Gauge(PREFIX + "calls", "Calls that the worker holds, including those that are starting.", registry=_registry)
CALLS_WITH_AVATAR = Gauge(
    PREFIX + "calls_with_avatar", "Calls with an avatar, including avatars that are starting.", registry=_registry
)
REGISTERED = Gauge(PREFIX + "registered", "1 while the worker is registered with LiveKit, else 0.", registry=_registry)
DRAINING = Gauge(
    PREFIX + "draining", "1 while the worker finishes its calls and accepts no new ones, else 0.", registry=_registry
)
REGISTRATIONS = Counter(PREFIX + "registrations", "Registrations with LiveKit.", registry=_registry)
ACCEPTED = Counter(
    PREFIX + "jobs_accepted", "Jobs that the worker accepted and LiveKit assigned to it.", registry=_registry
)
DECLINED = Counter(
    PREFIX + "jobs_declined",
    "Jobs declined, by reason: room_name (does not match the pattern), full (no free slot), draining.",
    ["reason"],
    registry=_registry,
)
for _reason in Declined:
    DECLINED.labels(_reason.value)
CALL_PROCESSES = Gauge(
    PREFIX + "call_processes",
    "Call processes by state: idle (ready for a call) or call (holds one).",
    ["state"],
    registry=_registry,
)
LOST = Counter(PREFIX + "calls_lost", "Calls whose process failed: killed, out of memory or hung.", registry=_registry)

REPORTS_SENT = Counter(
    PREFIX + "reports_sent", "Reports of calls that the receiver accepted (`spec.report`).", registry=_registry
)
REPORTS_DROPPED = Counter(
    PREFIX + "reports_dropped",
    "Reports of calls that are lost, by reason: rejected (by the receiver, for good), expired, full (too many waited), "
    "stopped (with the worker), missing (the call process ended without one).",
    ["reason"],
    registry=_registry,
)
REPORTS_WAITING = Gauge(PREFIX + "reports_waiting", "Reports of calls that wait to be sent.", registry=_registry)


class CallProcesses(Collector):
    """Collects the series of running and ended call processes from `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._merging = Lock()

    def collect(self) -> Iterator[Metric]:
        with self._merging:  # concurrent scrapes must not count a file twice
            merge_ended(self._directory)
            files = MultiProcessCollector(CollectorRegistry(), str(self._directory))  # type: ignore[no-untyped-call]
            found = list(files.collect())  # type: ignore[no-untyped-call]
        yield from (metric for metric in found if metric.name.startswith(PREFIX))


def prepare_directory(directory: Path) -> None:
    """Create the directory of the call processes' files, and delete files of an earlier run."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink()


def expose_call_processes(directory: Path) -> None:
    """Add the call processes' series to those that `exposition` returns."""
    _registry.register(CallProcesses(directory))


exposition = exposition_of(_registry)
"""Renders all series."""


def merge_ended(directory: Path) -> None:
    """Merge the files of ended processes into one file per type; delete their gauges, which mean nothing now."""
    for file in sorted(directory.glob("*.db")):
        kind, _, owner = file.stem.partition("_")
        owner = owner.rpartition("_")[2]
        if owner == _MERGED or not owner.isdecimal() or _is_running(int(owner)):
            continue
        if kind in ("counter", "histogram"):
            _add(file, directory / f"{kind}_{_MERGED}.db")
        file.unlink()


def _add(file: Path, total: Path) -> None:
    sums = MmapedDict(str(total))  # type: ignore[no-untyped-call]
    for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
        before, _ = sums.read_value(key)  # type: ignore[no-untyped-call]
        sums.write_value(key, before + value, timestamp)  # type: ignore[no-untyped-call]
    sums.close()  # type: ignore[no-untyped-call]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
