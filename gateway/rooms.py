"""Ids of calls and records of their rooms. Pure.

A call's room is named after the agent's ``roomNamePattern`` and the call's id (`agentspec.roompattern.room_name`), and
carries a small record as its metadata, so that LiveKit's list of rooms is the list of calls. Participants can read it:
nothing private is in it.
"""

import hashlib
import secrets

from pydantic import Field, ValidationError

from agentspec.model import Model


class RoomRecord(Model):
    """What a room says about its call."""

    version: int = Field(default=1, ge=1, le=1)
    call_id: str = Field(min_length=1, max_length=64)
    agent: str = Field(description="Agent key ``namespace/name``.", max_length=512)
    identity: str = Field(description="Identity of the caller in the room.", max_length=128)
    created_at: float = Field(description="Unix seconds.")
    request_hash: str = Field(description="Of the request that made it; one idempotency key is for one request.")
    agent_name: str = Field(
        description="Name that the call is dispatched to; the agent's own may have changed since.", max_length=256
    )
    call_token_hash: str = Field(default="", description="Fingerprint of the call token given out.", max_length=64)
    outcome: str = Field(default="", description="How the worker ended the call; it writes it.", max_length=64)


def new_call_id() -> str:
    """An id that cannot be guessed."""
    return secrets.token_hex(12)


def call_id_for(agent_key: str, caller: str, idempotency_key: str) -> str:
    """The id that every repetition of a request gets: the key is part of it, and cannot be read from it."""
    material = "\x00".join((agent_key, caller, idempotency_key))
    return hashlib.sha256(material.encode()).hexdigest()[:24]


def parse_record(metadata: str) -> RoomRecord | None:
    """The record in a room's metadata; None when the room is not one of ours."""
    try:
        return RoomRecord.model_validate_json(metadata)
    except ValidationError:
        return None


def render_record(record: RoomRecord) -> str:
    """The record as a room's metadata."""
    return record.model_dump_json(by_alias=True)
