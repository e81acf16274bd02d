"""Which participant of a room is the caller, when the caller arrives, and when the caller has left."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from livekit import rtc
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

from worker.call import budget, telephone
from worker.call.telephone import CallerStatus

SUBSCRIBE_SECONDS: Final = 1.0
SUBSCRIBE_ATTEMPTS: Final = 10
"""How often, and at which interval, a subscription that a reconnection lost is asked for again."""

logger = logging.getLogger(__name__)


class Caller:
    """The participant that the dispatch metadata names, or else the first one who joins.

    A caller joins, and has then arrived; a telephone has arrived when it answers. `on_left` is called when the caller
    has left for good: a telephone at once, any other caller after `REJOIN_SECONDS`.
    """

    KINDS: Final = (
        rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD,
        rtc.ParticipantKind.PARTICIPANT_KIND_SIP,
    )

    def __init__(self, room: rtc.Room, identity: str, on_left: Callable[[], None]) -> None:
        self._room = room
        self._identity = identity
        self._on_left = on_left
        self._joined = asyncio.Event()
        self._participant: rtc.RemoteParticipant | None = None
        self._arrived = asyncio.Event()
        self._connected = asyncio.Event()
        self._leaving: asyncio.TimerHandle | None = None
        self._reconnecting = False
        self._subscribing: asyncio.TimerHandle | None = None

    @property
    def identity(self) -> str:
        """The caller's LiveKit identity; empty until the caller is known."""
        return self._identity

    @property
    def has_arrived(self) -> bool:
        """Whether the caller has arrived, and may have left since."""
        return self._arrived.is_set()

    @property
    def is_telephone(self) -> bool:
        """Whether the caller is known to be a telephone."""
        return self._participant is not None and telephone.is_telephone(self._participant)

    @property
    def telephone_facts(self) -> Mapping[str, str]:
        """Number and trunk of a telephone caller; empty for any other caller."""
        return telephone.facts(self._participant) if self._participant is not None else {}

    @property
    def attributes(self) -> Mapping[str, str]:
        """Attributes of the caller's participant; empty before the caller has joined."""
        return self._participant.attributes if self._participant is not None else {}

    @property
    def metadata(self) -> str:
        """Metadata of the caller's participant; empty before the caller has joined."""
        return self._participant.metadata if self._participant is not None else ""

    def watch(self) -> None:
        """Start to follow the room, which must be connected."""
        self._room.on("participant_connected", self._on_connected)
        self._room.on("participant_active", self._on_active)
        self._room.on("participant_disconnected", self._on_disconnected)
        self._room.on("participant_attributes_changed", self._on_attributes)
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
        self._room.off("participant_attributes_changed", self._on_attributes)
        self._room.off("track_published", self._on_published)
        self._room.off("reconnecting", self._on_reconnecting)
        self._room.off("reconnected", self._on_reconnected)
        if self._subscribing is not None:
            self._subscribing.cancel()
        self._cancel_departure()

    async def joined(self) -> None:
        """Wait until the caller is in the room. A telephone may still ring."""
        await self._joined.wait()

    async def arrived(self) -> None:
        """Wait until the caller is in the room, and has answered the telephone."""
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
        self._identity, self._participant = participant.identity, participant
        if self._leaving is not None:
            logger.info("caller rejoined")
            self._cancel_departure()
        self._joined.set()
        self._follow_status(participant)
        if participant.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE:
            self._connected.set()

    def _on_active(self, participant: rtc.RemoteParticipant) -> None:
        if self._is_caller(participant):
            self._connected.set()

    def _on_attributes(self, _: dict[str, str], participant: rtc.Participant) -> None:
        if self._participant is not None and participant.identity == self._identity:
            self._follow_status(self._participant)

    def _follow_status(self, participant: rtc.RemoteParticipant) -> None:
        match telephone.status(participant):
            case CallerStatus.RINGING:
                logger.info("telephone rings")
            case CallerStatus.PRESENT:
                self._arrived.set()
            case CallerStatus.HUNG_UP:
                self._hang_up()

    def _on_published(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        """Subscribe to the caller's audio only; the avatar's audio and video are for the caller."""
        if self._is_caller(participant) and publication.kind == rtc.TrackKind.KIND_AUDIO:
            publication.set_subscribed(True)

    def _on_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        if not self._joined.is_set() or participant.identity != self._identity or self._reconnecting:
            return
        if telephone.is_telephone(participant):
            self._hang_up()
        else:
            self._await_return()

    def _on_reconnecting(self) -> None:
        """Ignore departures while the agent's own connection is lost: the library drops all participants."""
        self._reconnecting = True
        self._cancel_departure()

    def _on_reconnected(self) -> None:
        self._reconnecting = False
        self._subscribe_again(SUBSCRIBE_ATTEMPTS)
        if self._joined.is_set() and self._identity not in self._room.remote_participants:
            self._await_return()

    def _subscribe_again(self, attempts: int) -> None:
        """Subscribe to the caller's audio again, until it arrives.

        A caller's track may be published while the agent's own connection is being restored. The library then drops
        the subscription ("dropping pass-through signal", livekit 1.1), and the agent would be deaf for good.
        """
        missing = [
            publication
            for participant in self._room.remote_participants.values()
            for publication in participant.track_publications.values()
            if self._is_caller(participant)
            and publication.kind == rtc.TrackKind.KIND_AUDIO
            and not publication.subscribed
        ]
        for publication in missing:
            publication.set_subscribed(True)
        if attempts > 1:
            again = asyncio.get_running_loop().call_later(SUBSCRIBE_SECONDS, self._subscribe_again, attempts - 1)
            self._subscribing = again

    def _hang_up(self) -> None:
        logger.info("telephone hung up")
        self._cancel_departure()
        self._on_left()

    def _await_return(self) -> None:
        logger.info("caller left", extra={"rejoin_seconds": budget.REJOIN_SECONDS})
        self._cancel_departure()
        self._leaving = asyncio.get_running_loop().call_later(budget.REJOIN_SECONDS, self._on_left)

    def _cancel_departure(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
