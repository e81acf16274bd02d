"""Call ids. Pure.

A call's room is named after the agent's ``roomNamePattern`` and the call's id (`agentspec.roompattern.room_name`), and
its metadata is a room record (`agentspec.wire.RoomRecord`).
"""

import hashlib
import secrets


def new_call_id() -> str:
    """Return a random id that cannot be guessed."""
    return secrets.token_hex(12)


def call_id_for(agent_key: str, scope: str, idempotency_key: str) -> str:
    """Return the id of the call for an idempotency key. It is the same for every repetition, and hides the key.

    ``scope`` is the client's `access.Client.scope`.
    """
    material = "\x00".join((agent_key, scope, idempotency_key))
    return hashlib.sha256(material.encode()).hexdigest()[:24]
