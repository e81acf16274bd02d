"""Call ids. Pure.

An id begins with the shard of the call's agent, so every gateway knows from it who follows the call.

A call's room is named after the agent's ``roomNamePattern`` and the call's id (`agentspec.roompattern.room_name`), and
its metadata is a room record (`agentspec.wire.RoomRecord`).
"""

import hashlib
import secrets

from gateway.cluster.members import SHARD_DIGITS, shard_of

_LENGTH = 24


def new_call_id(agent_key: str) -> str:
    """Return a random id that cannot be guessed."""
    return _call_id(agent_key, secrets.token_hex(_LENGTH // 2))


def call_id_for(agent_key: str, scope: str, idempotency_key: str) -> str:
    """Return the id of the call for an idempotency key. It is the same for every repetition, and hides the key.

    ``scope`` is the client's `access.Client.scope`.
    """
    material = "\x00".join((agent_key, scope, idempotency_key))
    return _call_id(agent_key, hashlib.sha256(material.encode()).hexdigest())


def foreign_call_id(agent_key: str, server: str, sid: str) -> str:
    """Return the id of the call in a foreign room. It is the same for every gateway."""
    return _call_id(agent_key, hashlib.sha256(f"{server}\x00{sid}".encode()).hexdigest())


def shard_of_call(call_id: str) -> str:
    """Return the shard of the agent that a call belongs to."""
    return call_id[:SHARD_DIGITS]


def _call_id(agent_key: str, digits: str) -> str:
    return shard_of(agent_key) + digits[: _LENGTH - SHARD_DIGITS]
