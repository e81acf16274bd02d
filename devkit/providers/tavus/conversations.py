"""Tavus' conversations: what a request for one must hold, the seats they take, and their life from create to end."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from devkit.providers.tavus.avatar import Avatar, AvatarError

logger = logging.getLogger(__name__)

JOIN_TIMEOUT_SECONDS = 20.0
MAX_CALL_SECONDS = 3600
"""Tavus' default `max_call_duration`."""
ABSENT_SECONDS = 300
"""Tavus' default `participant_absent_timeout`: how long a conversation that nobody comes to keeps its seat."""

_REMEMBERED = 200
_LEAVE_SECONDS = 10.0


class InvalidRequest(ValueError):
    """The request for a conversation is not one; the message says why."""


class NoSeat(RuntimeError):
    """Every seat is taken."""


@dataclass(frozen=True)
class ConversationRequest:
    """What livekit-plugins-tavus asks for. `face_id` and `pal_id` were called replica_id and persona_id before."""

    face_id: str
    pal_id: str
    name: str
    livekit_url: str
    livekit_token: str = field(repr=False)
    max_call_seconds: int
    absent_seconds: int


def parse(document: object) -> ConversationRequest:
    """Return the request in a decoded JSON body. Raises `InvalidRequest`."""
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    face = _text(document, "face_id") or _text(document, "replica_id")
    pal = _text(document, "pal_id") or _text(document, "persona_id")
    if not face and not pal:
        raise InvalidRequest("a face_id or a pal_id is required")
    properties = document.get("properties", {})
    if not isinstance(properties, dict):
        raise InvalidRequest("properties must be an object")
    url, token = _text(properties, "livekit_ws_url"), _text(properties, "livekit_room_token")
    if not url.startswith(("ws://", "wss://")) or not token:
        raise InvalidRequest("properties.livekit_ws_url (ws:// or wss://) and properties.livekit_room_token are needed")
    return ConversationRequest(
        face_id=face,
        pal_id=pal,
        name=_text(document, "conversation_name"),
        livekit_url=url,
        livekit_token=token,
        max_call_seconds=_seconds(properties, "max_call_duration", MAX_CALL_SECONDS),
        absent_seconds=_seconds(properties, "participant_absent_timeout", ABSENT_SECONDS),
    )


class Conversation:
    """One conversation. It holds a seat from its creation to its end, whether or not the avatar ever joins."""

    def __init__(self, request: ConversationRequest) -> None:
        self.id = f"c{uuid.uuid4().hex[:12]}"
        self.request = request
        self.created_at = _now()
        self.updated_at = self.created_at
        self.active = True
        self.joined = False
        self.room: str | None = None
        self.identity: str | None = None
        self.ended_because: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, *, joins: bool) -> None:
        """Send the avatar to the room, or, when `joins` is false, nobody."""
        self._task = asyncio.create_task(self._live() if joins else self._wait_in_vain(), name=self.id)

    async def end(self, why: str) -> None:
        """End the conversation and wait until the avatar has left; harmless when it has ended already."""
        self._finish(why)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_LEAVE_SECONDS)

    def document(self) -> dict[str, Any]:
        """Return the conversation as Tavus describes it."""
        return {
            "conversation_id": self.id,
            "conversation_name": self.request.name,
            "conversation_url": "",
            "status": "active" if self.active else "ended",
            "face_id": self.request.face_id,
            "pal_id": self.request.pal_id,
            "replica_id": self.request.face_id,
            "persona_id": self.request.pal_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }

    def report(self) -> dict[str, Any]:
        """Return what the simulator shows about it, the token left out."""
        return {
            "conversation_id": self.id,
            "status": "active" if self.active else "ended",
            "room": self.room,
            "identity": self.identity,
            "joined": self.joined,
            "ended_because": self.ended_because,
        }

    async def _live(self) -> None:
        avatar = Avatar(self.request.face_id or self.request.pal_id)
        why = "ended"
        try:
            await avatar.join(self.request.livekit_url, self.request.livekit_token, JOIN_TIMEOUT_SECONDS)
            self.joined, self.room, self.identity = True, avatar.room_name, avatar.identity
            logger.info("avatar joined: conversation=%s room=%s identity=%s", self.id, self.room, self.identity)
            why = await avatar.stay(self.request.max_call_seconds)
        except AvatarError as error:
            why = str(error)
            logger.warning("avatar failed: conversation=%s reason=%s", self.id, why)
        finally:
            self._finish(why)
            await self._leave(avatar)

    async def _leave(self, avatar: Avatar) -> None:
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await avatar.leave()
        except Exception:
            logger.exception("avatar did not leave in order: conversation=%s", self.id)

    async def _wait_in_vain(self) -> None:
        await asyncio.sleep(self.request.absent_seconds)
        self._finish("participant_absent_timeout reached")

    def _finish(self, why: str) -> None:
        if self.active:
            self.active, self.ended_because, self.updated_at = False, why, _now()
            logger.info("conversation ended: conversation=%s reason=%s", self.id, why)


class Conversations:
    """All conversations of the account; ended ones are remembered for a while."""

    def __init__(self) -> None:
        self._active: dict[str, Conversation] = {}
        self._ended: deque[Conversation] = deque(maxlen=_REMEMBERED)

    def create(self, request: ConversationRequest, *, seats: int | None, joins: bool) -> Conversation:
        """Start a conversation. Raises `NoSeat` when `seats` of them are active."""
        self._sort_out()
        if seats is not None and len(self._active) >= seats:
            raise NoSeat
        conversation = Conversation(request)
        self._active[conversation.id] = conversation
        conversation.start(joins=joins)
        return conversation

    def get(self, identifier: str) -> Conversation | None:
        """Return the conversation with that id, if there is one."""
        return next((c for c in self.all() if c.id == identifier), None)

    def all(self) -> list[Conversation]:
        """Return every remembered conversation, oldest first."""
        self._sort_out()
        return [*self._ended, *self._active.values()]

    def forget(self, conversation: Conversation) -> None:
        """Remove an ended conversation."""
        self._sort_out()
        if conversation in self._ended:
            self._ended.remove(conversation)

    async def end_all(self, why: str) -> None:
        """End every conversation."""
        await asyncio.gather(*(c.end(why) for c in list(self._active.values())))

    def _sort_out(self) -> None:
        for conversation in [c for c in self._active.values() if not c.active]:
            del self._active[conversation.id]
            self._ended.append(conversation)


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise InvalidRequest(f"{key} must be a string")
    return value


def _seconds(document: dict[str, Any], key: str, default: int) -> int:
    value = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise InvalidRequest(f"properties.{key} must be a positive number of seconds")
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat()
