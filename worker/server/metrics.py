"""Prometheus series of a worker: its own, and those of its call processes.

The main process counts in memory. Call processes write to files in PROMETHEUS_MULTIPROC_DIR (prometheus-client's
multiprocess mode); a scrape reads both. One process is born for every call, so the files of the dead are folded into
one: thousands of calls leave a handful of files. PROMETHEUS_MULTIPROC_DIR must not be set when this module's process
imports prometheus_client: livekit-agents empties the directory when it starts, under the feet of files already open.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, disable_created_metrics, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

PREFIX: Final = "avatar_agent_worker_"
_FOLDED: Final = "folded"

disable_created_metrics()  # type: ignore[no-untyped-call]
_registry = CollectorRegistry()

SLOTS = Gauge(PREFIX + "slots", "Calls that the worker can hold.", registry=_registry)
CALLS = Gauge(PREFIX + "calls", "Calls that the worker holds, those being started included.", registry=_registry)
CALLS_WITH_AVATAR = Gauge(
    PREFIX + "calls_with_avatar", "Calls that have an avatar, or are starting one.", registry=_registry
)
REGISTERED = Gauge(PREFIX + "registered", "1 while registered with LiveKit, else 0.", registry=_registry)
DRAINING = Gauge(PREFIX + "draining", "1 while the worker finishes its calls and takes no more.", registry=_registry)
REGISTRATIONS = Counter(PREFIX + "registrations", "Times the worker registered with LiveKit.", registry=_registry)
ACCEPTED = Counter(PREFIX + "jobs_accepted", "Jobs accepted and assigned to this worker.", registry=_registry)
DECLINED = Counter(
    PREFIX + "jobs_declined",
    "Jobs declined: room_name (does not match the pattern), full (no free slot), draining.",
    ["reason"],
    registry=_registry,
)
LOST = Counter(PREFIX + "calls_lost", "Calls whose process died: killed, out of memory or hung.", registry=_registry)


class CallProcesses(Collector):
    """The series of the call processes, living and dead, below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folding = Lock()

    def collect(self) -> Iterator[Metric]:
        with self._folding:  # two scrapes at once must not count a file twice
            fold_dead(self._directory)
            files = MultiProcessCollector(CollectorRegistry(), str(self._directory))  # type: ignore[no-untyped-call]
            found = list(files.collect())  # type: ignore[no-untyped-call]
        yield from (metric for metric in found if metric.name.startswith(PREFIX))


def prepare_directory(directory: Path) -> None:
    """Make the directory of the call processes' files, and empty it of an earlier run's."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink()


def expose_call_processes(directory: Path) -> None:
    """Serve the call processes' series beside the worker's own from now on."""
    _registry.register(CallProcesses(directory))


def render() -> bytes:
    """The exposition text."""
    return generate_latest(_registry)


def fold_dead(directory: Path) -> None:
    """Add the files of processes that are gone to one file per type; gauges of the dead have no meaning and go."""
    for file in sorted(directory.glob("*.db")):
        kind, _, owner = file.stem.partition("_")
        owner = owner.rpartition("_")[2]
        if owner == _FOLDED or not owner.isdecimal() or _alive(int(owner)):
            continue
        if kind in ("counter", "histogram"):
            _add(file, directory / f"{kind}_{_FOLDED}.db")
        file.unlink()


def _add(file: Path, total: Path) -> None:
    sums = MmapedDict(str(total))  # type: ignore[no-untyped-call]
    for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
        before, _ = sums.read_value(key)  # type: ignore[no-untyped-call]
        sums.write_value(key, before + value, timestamp)  # type: ignore[no-untyped-call]
    sums.close()  # type: ignore[no-untyped-call]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
