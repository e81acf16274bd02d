"""Ids of calls. Pure.

A call's room is named after the agent's ``roomNamePattern`` and the call's id (`agentspec.roompattern.room_name`), and
its metadata is a room record (`agentspec.wire.RoomRecord`).
"""

import hashlib
import secrets


def new_call_id() -> str:
    """An id that cannot be guessed."""
    return secrets.token_hex(12)


def call_id_for(agent_key: str, caller: str, idempotency_key: str) -> str:
    """The id that every repetition of a request gets: the key is part of it, and cannot be read from it."""
    material = "\x00".join((agent_key, caller, idempotency_key))
    return hashlib.sha256(material.encode()).hexdigest()[:24]
