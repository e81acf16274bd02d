"""Tavus' conversations: their requests, their seats, and their life from create to end."""

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
"""Tavus' default `participant_absent_timeout`: how long a conversation without participants keeps its seat."""

_ENDED_KEPT = 200
_LEAVE_SECONDS = 10.0


class InvalidRequest(ValueError):
    """The request for a conversation is invalid; the message says why."""


class NoSeat(RuntimeError):
    """All seats are taken."""


@dataclass(frozen=True)
class ConversationRequest:
    """A request of livekit-plugins-tavus. The former names of `face_id` and `pal_id` are replica_id and persona_id."""

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
        raise InvalidRequest(
            "properties.livekit_ws_url (ws:// or wss://) and properties.livekit_room_token are required"
        )
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
    """A conversation. It holds a seat from its creation to its end, even if the avatar never joins."""

    def __init__(self, request: ConversationRequest) -> None:
        self.id = f"c{uuid.uuid4().hex[:12]}"
        self.request = request
        self.created_at = _now()
        self.updated_at = self.created_at
        self.active = True
        self.joined = False
        self.room: str | None = None
        self.identity: str | None = None
        self.end_reason: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, *, joins: bool) -> None:
        """Start the conversation; the avatar joins the room only if `joins`."""
        self._task = asyncio.create_task(self._live() if joins else self._stay_absent(), name=self.id)

    async def end(self, reason: str) -> None:
        """End the conversation, unless it has ended, and wait until the avatar has left."""
        self._finish(reason)
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
        """Return the conversation as the simulator shows it, without the token."""
        return {
            "conversation_id": self.id,
            "status": "active" if self.active else "ended",
            "room": self.room,
            "identity": self.identity,
            "joined": self.joined,
            "end_reason": self.end_reason,
        }

    async def _live(self) -> None:
        avatar = Avatar(self.request.face_id or self.request.pal_id)
        reason = "ended"
        try:
            await avatar.join(self.request.livekit_url, self.request.livekit_token, JOIN_TIMEOUT_SECONDS)
            self.joined, self.room, self.identity = True, avatar.room_name, avatar.identity
            logger.info("avatar joined: conversation=%s room=%s identity=%s", self.id, self.room, self.identity)
            reason = await avatar.stay(self.request.max_call_seconds)
        except AvatarError as error:
            reason = str(error)
            logger.warning("avatar failed: conversation=%s reason=%s", self.id, reason)
        finally:
            self._finish(reason)
            await self._leave(avatar)

    async def _leave(self, avatar: Avatar) -> None:
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await avatar.leave()
        except Exception:
            logger.exception("avatar failed to leave: conversation=%s", self.id)

    async def _stay_absent(self) -> None:
        await asyncio.sleep(self.request.absent_seconds)
        self._finish("participant_absent_timeout reached")

    def _finish(self, reason: str) -> None:
        if self.active:
            self.active, self.end_reason, self.updated_at = False, reason, _now()
            logger.info("conversation ended: conversation=%s reason=%s", self.id, reason)


class Conversations:
    """All active conversations of the account, and the last ended ones."""

    def __init__(self) -> None:
        self._active: dict[str, Conversation] = {}
        self._ended: deque[Conversation] = deque(maxlen=_ENDED_KEPT)

    def create(self, request: ConversationRequest, *, seats: int | None, joins: bool) -> Conversation:
        """Start a conversation. Raises `NoSeat` when `seats` of them are active."""
        self._move_ended()
        if seats is not None and len(self._active) >= seats:
            raise NoSeat
        conversation = Conversation(request)
        self._active[conversation.id] = conversation
        conversation.start(joins=joins)
        return conversation

    def get(self, identifier: str) -> Conversation | None:
        """Return the conversation with that id, or None."""
        return next((c for c in self.all() if c.id == identifier), None)

    def all(self) -> list[Conversation]:
        """Return the stored conversations: the ended ones, then the active ones, each oldest first."""
        self._move_ended()
        return [*self._ended, *self._active.values()]

    def forget(self, conversation: Conversation) -> None:
        """Remove an ended conversation."""
        self._move_ended()
        if conversation in self._ended:
            self._ended.remove(conversation)

    async def end_all(self, reason: str) -> None:
        """End every conversation."""
        await asyncio.gather(*(c.end(reason) for c in list(self._active.values())))

    def _move_ended(self) -> None:
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
