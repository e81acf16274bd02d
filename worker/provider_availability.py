"""Which providers of a stage with fallbacks are unavailable: later calls of the worker ask another one first.

A call process finds out and reports (`worker.reports`). The main process writes what it knows to a file, which call
processes read when a call begins. Without it, each call would wait for the stalled provider once.
"""

import os
import time
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from agentspec.model import Model
from worker import reports
from worker.reports import SOCKET_VARIABLE

RECHECK_SECONDS: Final = 60.0
"""How long calls ask an unavailable provider last. Then one of them asks it first again."""
_FILE: Final = "unavailable-providers"


class ProviderAvailability(Model):
    """A provider of a stage has become unavailable, or available again."""

    stage: str
    position: int
    """In the manifest; 0: the first provider, from 1: its fallbacks."""
    available: bool
    at: float
    """Unix seconds."""


_Known = TypeAdapter(list[ProviderAvailability])


class Availability:
    """What the calls of a worker have reported."""

    def __init__(self) -> None:
        self._unavailable: dict[tuple[str, int], ProviderAvailability] = {}

    def record(self, reported: ProviderAvailability) -> None:
        """Add a report, and tell call processes."""
        key = reported.stage, reported.position
        if reported.available:
            self._unavailable.pop(key, None)
        else:
            self._unavailable[key] = reported
        if (path := _path()) is not None:
            new = path.with_suffix(".new")
            new.write_bytes(_Known.dump_json(list(self._unavailable.values()), by_alias=True))
            new.replace(path)


def report(found: ProviderAvailability) -> None:
    """Report to the worker's main process, from a call process."""
    reports.send(found)


def unavailable(stage: str) -> frozenset[int]:
    """Return the positions of a stage's providers that were unavailable within the last RECHECK_SECONDS."""
    path = _path()
    try:
        known = _Known.validate_json(path.read_bytes()) if path is not None else []
    except (OSError, ValueError):
        return frozenset()
    oldest = time.time() - RECHECK_SECONDS
    return frozenset(one.position for one in known if one.stage == stage and one.at >= oldest)


def _path() -> Path | None:
    socket = os.environ.get(SOCKET_VARIABLE)
    return Path(socket).with_name(_FILE) if socket else None
