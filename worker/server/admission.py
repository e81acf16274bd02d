"""Whether to take a job: which rooms, while which slots are free; and what its metadata says. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import ValidationError

from agentspec.wire import CallMetadata

MAX_METADATA_BYTES: Final = 4096


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


def read_metadata(text: str) -> tuple[CallMetadata | None, str]:
    """A dispatch's metadata, or None and why it is ignored. The call goes on either way: anyone may dispatch."""
    if not text:
        return None, ""
    if len(text.encode()) > MAX_METADATA_BYTES:
        return None, f"metadata is longer than {MAX_METADATA_BYTES} bytes"
    try:
        return CallMetadata.model_validate_json(text), ""
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return None, f"metadata is not a CallMetadata document: {'.'.join(map(str, first['loc']))} {first['msg']}"
