"""Decides whether to take a job: which rooms, while which slots are free. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum


class Declined(StrEnum):
    """Why a job was not taken: the label of a metric and a field of the log."""

    ROOM_NAME = "room_name"
    FULL = "full"
    DRAINING = "draining"


@dataclass(frozen=True)
class Decision:
    """Accepted when `declined` is None."""

    declined: Declined | None = None
    reason: str = ""


def decide(room: str, pattern: str, *, calls: int, slots: int, draining: bool) -> Decision:
    """Decide on a job for `room` at a worker that holds `calls` of `slots`."""
    if re.search(pattern, room) is None:
        return Decision(Declined.ROOM_NAME, f"room name does not match roomNamePattern {pattern!r}")
    if draining:
        return Decision(Declined.DRAINING, "the worker is draining")
    if calls >= slots:
        return Decision(Declined.FULL, f"all {slots} slots are in use")
    return Decision()
