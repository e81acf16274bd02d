"""Names and records of rooms. Pure.

A call's room is named after the agent's ``roomNamePattern`` and the call's id, and carries a small record as its
metadata, so that LiveKit's list of rooms is the list of calls. Participants can read it: nothing private is in it.
"""

import hashlib
import re
import secrets

from pydantic import Field, ValidationError

from agentspec.model import Model
from agentspec.roompattern import RoomPatternInvalid, compiled

_LITERAL = re.compile(r"[A-Za-z0-9_\- ~@%=:,/]")
_QUANTIFIERS = "*?{"


class RoomPatternError(Exception):
    """No room name can be made for a pattern; the message says what to write."""


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
    outcome: str = Field(default="", description="How the worker ended the call; it writes it.", max_length=64)


def new_call_id() -> str:
    """An id that cannot be guessed."""
    return secrets.token_hex(12)


def call_id_for(agent_key: str, caller: str, idempotency_key: str) -> str:
    """The id that every repetition of a request gets: the key is part of it, and cannot be read from it."""
    material = "\x00".join((agent_key, caller, idempotency_key))
    return hashlib.sha256(material.encode()).hexdigest()[:24]


def literal_prefix(pattern: str) -> str:
    """The text that every match of an anchored pattern begins with.

    ``^ornina-`` gives ``ornina-``, ``^a(b|c)`` gives ``a``; a pattern without ``^``, or with an alternative at its top
    level, gives nothing.
    """
    if not pattern.startswith("^") or _has_top_level_alternative(pattern):
        return ""
    prefix = ""
    rest = pattern[1:]
    while rest:
        if rest[0] == "\\" and len(rest) > 1 and not rest[1].isalnum():
            character, width = rest[1], 2
        elif _LITERAL.match(rest[0]):
            character, width = rest[0], 1
        else:
            break
        if rest[width : width + 1] and rest[width] in _QUANTIFIERS:
            break
        prefix += character
        rest = rest[width:]
    return prefix


def _has_top_level_alternative(pattern: str) -> bool:
    depth, in_class, escaped = 0, False, False
    for character in pattern:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and depth == 0:
            return True
    return False


def room_name(pattern: str, call_id: str) -> str:
    """The room of a call, which the agent's workers accept.

    Raises:
        RoomPatternError: the pattern cannot be used, or the name made from it does not match it.
    """
    try:
        expression = compiled(pattern)
    except RoomPatternInvalid as error:
        raise RoomPatternError(f"roomNamePattern {pattern!r} cannot be used: {error}") from error
    name = (literal_prefix(pattern) or "call-") + call_id
    if not expression.search(name):
        raise RoomPatternError(
            f"roomNamePattern {pattern!r} does not match the room name {name!r} that the gateway made from it: "
            "begin the pattern with ^ and a literal prefix and leave the end open, as in '^support-'"
        )
    return name


def parse_record(metadata: str) -> RoomRecord | None:
    """The record in a room's metadata; None when the room is not one of ours."""
    try:
        return RoomRecord.model_validate_json(metadata)
    except ValidationError:
        return None


def render_record(record: RoomRecord) -> str:
    """The record as a room's metadata."""
    return record.model_dump_json(by_alias=True)
