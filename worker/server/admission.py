"""Decides whether to accept a job: by its room name, the free slots and the drain. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum


class Declined(StrEnum):
    """Why a job was declined: a label of `jobs_declined`."""

    ROOM_NAME = "room_name"
    FULL = "full"
    DRAINING = "draining"


@dataclass(frozen=True)
class Decision:
    """Whether a job is accepted: it is when `declined` is None."""

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
