"""The record in a room's metadata: which call the room is for, and how the agent ended it.

The gateway creates the room with the record, so that LiveKit's list of rooms is the list of calls. The worker adds the
outcome before it leaves. Participants can read room metadata: the record holds nothing private.
"""

import json
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, ValidationError

from agentspec.model import Model
from agentspec.wire.documents import read


class CallOutcome(StrEnum):
    """How a call ended, as the worker sees it: a label of its metrics, and the outcome in the room record."""

    CALLER_LEFT = "caller_left"
    CALLER_ABSENT = "caller_absent"
    """No caller joined the room, or answered the telephone, in time."""
    CALLER_IDLE = "caller_idle"
    """The caller stayed silent for longer than `conversation` allows."""
    AGENT_ENDED = "agent_ended"
    """The agent ended the call with a tool, after it said goodbye."""
    MAX_LENGTH = "max_length"
    """The call reached `worker.maxCallMinutes`."""
    ROOM_CLOSED = "room_closed"
    """The room was deleted, or LiveKit closed the connection."""
    PROVIDER_FAILED = "provider_failed"
    """Speech-to-text, the language model or text-to-speech failed repeatedly."""
    AVATAR_FAILED = "avatar_failed"
    """The avatar failed, and `avatar.onFailure` is EndCall."""
    NO_AVATAR_SEAT = "no_avatar_seat"
    """No avatar seat was free, and `avatar.onFailure` is EndCall."""
    STOPPED = "stopped"
    """The worker or LiveKit ended the job."""
    CRASHED = "crashed"
    """An internal error ended the call."""


REPORTED_OUTCOMES: Final = frozenset(
    {
        CallOutcome.AGENT_ENDED,
        CallOutcome.CALLER_IDLE,
        CallOutcome.MAX_LENGTH,
        CallOutcome.PROVIDER_FAILED,
        CallOutcome.AVATAR_FAILED,
        CallOutcome.NO_AVATAR_SEAT,
    }
)
"""Outcomes that the worker adds to the room record: the caller is still there, and the gateway tells them why the call
ended. Without one the gateway treats an absent agent as lost."""


class RoomRecord(Model):
    """What a room's metadata says about its call."""

    version: int = Field(
        default=1,
        ge=1,
        description="Always 1. Release 0.1.0 accepts no other value; later readers accept any, because a change that "
        "old readers cannot ignore gets a document of its own.",
    )
    call_id: str = Field(min_length=1, max_length=64)
    agent: str = Field(description="Agent key ``namespace/name``.", max_length=512)
    identity: str = Field(description="Identity of the caller in the room.", max_length=128)
    created_at: float = Field(description="Unix seconds.")
    request_hash: str = Field(
        description="Hash of the request for the call: an idempotency key is valid for one request only."
    )
    agent_name: str = Field(
        description="Name that the call is dispatched to. The agent's own may have changed since.", max_length=256
    )
    call_token_hash: str = Field(
        default="", description="Fingerprint of the call token that was issued.", max_length=64
    )
    from_token: bool = Field(
        default=False,
        exclude_if=lambda value: not value,  # release 0.1.0 rejects unknown fields
        description="The room came into being when its caller joined with a token of the token endpoint. `createdAt` "
        "is then the time of the token, and no gateway knows of the call yet.",
    )
    outcome: Annotated[CallOutcome | Annotated[str, Field(max_length=64)], Field(union_mode="left_to_right")] = Field(
        default="",
        description="How the agent ended the call; the worker adds it. Empty: it has not. An outcome of a newer worker "
        "stays as its text, and the gateway acts as without one: the worker closes the room itself.",
    )


def read_room_record(metadata: str) -> RoomRecord | None:
    """Return the record in a room's metadata; None when the room is not a gateway's."""
    if not metadata:  # as in most rooms of other programs, which every list of rooms contains
        return None
    try:
        return read(RoomRecord, metadata)
    except ValidationError:
        return None


def with_outcome(metadata: str, outcome: CallOutcome) -> str:
    """Return a room's metadata with the outcome added to its record. Fields of a newer gateway stay as they are.

    Raises:
        ValueError: The metadata holds no room record.
    """
    if read_room_record(metadata) is None:
        raise ValueError("the room's metadata is not a room record")
    return json.dumps(json.loads(metadata) | {"outcome": outcome.value}, ensure_ascii=False)
