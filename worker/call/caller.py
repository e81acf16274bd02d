"""Which participant of a room is the caller, when the caller arrives, and when the caller has left."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from livekit import rtc
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

logger = logging.getLogger(__name__)

REJOIN_SECONDS: Final = 10.0
"""How long a caller may take to rejoin after a reloaded page or a lost network."""


class Caller:
    """The participant that the dispatch metadata names, or else the first one who joins."""

    KINDS: Final = (
        rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD,
        rtc.ParticipantKind.PARTICIPANT_KIND_SIP,
    )

    def __init__(self, room: rtc.Room, identity: str, on_left: Callable[[], None]) -> None:
        self._room = room
        self._identity = identity
        self._on_left = on_left
        self._arrived = asyncio.Event()
        self._connected = asyncio.Event()
        self._leaving: asyncio.TimerHandle | None = None
        self._reconnecting = False

    @property
    def identity(self) -> str:
        """The caller's LiveKit identity; empty until the caller is known."""
        return self._identity

    def watch(self) -> None:
        """Start to follow the room, which must be connected."""
        self._room.on("participant_connected", self._on_connected)
        self._room.on("participant_active", self._on_active)
        self._room.on("participant_disconnected", self._on_disconnected)
        self._room.on("track_published", self._on_published)
        self._room.on("reconnecting", self._on_reconnecting)
        self._room.on("reconnected", self._on_reconnected)
        for participant in self._room.remote_participants.values():
            self._on_connected(participant)
            for publication in participant.track_publications.values():
                self._on_published(publication, participant)

    def unwatch(self) -> None:
        """Stop following the room, and cancel a pending departure."""
        self._room.off("participant_connected", self._on_connected)
        self._room.off("participant_active", self._on_active)
        self._room.off("participant_disconnected", self._on_disconnected)
        self._room.off("track_published", self._on_published)
        self._room.off("reconnecting", self._on_reconnecting)
        self._room.off("reconnected", self._on_reconnected)
        self._cancel_departure()

    async def arrived(self) -> None:
        """Wait until the caller is in the room."""
        await self._arrived.wait()

    async def connected(self) -> None:
        """Wait until the caller's media connection is established. Audio sent before is lost."""
        await self._connected.wait()

    def others_present(self) -> bool:
        """Return whether others than the caller and agents are in the room; then the agent must not close it."""
        return any(
            self._may_be_caller(participant) and participant.identity != self._identity
            for participant in self._room.remote_participants.values()
        )

    def _may_be_caller(self, participant: rtc.RemoteParticipant) -> bool:
        return participant.kind in self.KINDS and ATTRIBUTE_PUBLISH_ON_BEHALF not in participant.attributes

    def _is_caller(self, participant: rtc.RemoteParticipant) -> bool:
        return self._may_be_caller(participant) and self._identity in ("", participant.identity)

    def _on_connected(self, participant: rtc.RemoteParticipant) -> None:
        if not self._is_caller(participant):
            return
        self._identity = participant.identity
        if self._leaving is not None:
            logger.info("caller rejoined")
            self._cancel_departure()
        self._arrived.set()
        if participant.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE:
            self._connected.set()

    def _on_active(self, participant: rtc.RemoteParticipant) -> None:
        if self._is_caller(participant):
            self._connected.set()

    def _on_published(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        """Subscribe to the caller's audio only; the avatar's audio and video are for the caller."""
        if self._is_caller(participant) and publication.kind == rtc.TrackKind.KIND_AUDIO:
            publication.set_subscribed(True)

    def _on_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        if not self._arrived.is_set() or participant.identity != self._identity:
            return
        if not self._reconnecting:
            self._await_return()

    def _on_reconnecting(self) -> None:
        """Ignore departures while the agent's own connection is lost: the library drops all participants."""
        self._reconnecting = True
        self._cancel_departure()

    def _on_reconnected(self) -> None:
        self._reconnecting = False
        if self._arrived.is_set() and self._identity not in self._room.remote_participants:
            self._await_return()

    def _await_return(self) -> None:
        logger.info("caller left", extra={"rejoin_seconds": REJOIN_SECONDS})
        self._cancel_departure()
        self._leaving = asyncio.get_running_loop().call_later(REJOIN_SECONDS, self._on_left)

    def _cancel_departure(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
