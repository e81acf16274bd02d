"""What a worker stores in LiveKit about a gateway's call: the last turns, and the room record if LiveKit lost it.

When the worker is lost, the gateway sends another agent to the caller. That agent reads the turns and continues the
conversation. A LiveKit server that restarts loses the metadata of its rooms, and with it the record; the worker then
writes the record that it knows.
"""

import asyncio
import logging

from livekit import api, rtc
from livekit.agents import JobContext

from agentspec.wire import (
    TURNS_ATTRIBUTE,
    Speaker,
    Turn,
    newest_turns,
    read_room_record,
    read_turns,
    render_turns,
)
from worker.call import budget
from worker.call.caller import Caller

logger = logging.getLogger(__name__)


class RoomState:
    """The state of one call in LiveKit. Does nothing in a room without a room record.

    `stores_turns` is `conversation.resumeAfterRescue`.
    """

    def __init__(self, context: JobContext, caller: Caller, *, stores_turns: bool) -> None:
        self._context = context
        self._caller = caller
        self._stores_turns = stores_turns
        self._turns: list[Turn] = []
        self._record = ""
        """The room's metadata when it last was a record; empty: the room has none."""
        self._changed = asyncio.Event()
        self._record_may_be_lost = False
        self._has_failed = False

    @property
    def record(self) -> str:
        """The room's metadata with its record, also after LiveKit has lost it. Without a record, as it is."""
        metadata = self._context.room.metadata or ""
        if read_room_record(metadata) is not None:
            self._record = metadata
        return self._record or metadata

    def load(self) -> list[Turn]:
        """Return the turns that a lost agent stored; the room must be connected. Empty: there was no such agent."""
        if self._stores_turns and read_room_record(self.record) is not None:
            self._turns = read_turns(self._caller.attributes.get(TURNS_ATTRIBUTE, ""))
        return list(self._turns)

    def add(self, speaker: Speaker, text: str) -> None:
        """Store a turn soon."""
        if self._stores_turns and text:
            self._turns = newest_turns([*self._turns, Turn(speaker=speaker, text=text)])
            self._changed.set()

    async def run(self) -> None:
        """Write what has changed, at most once per `STORE_PAUSE_SECONDS`, until cancelled. No failure ends the call."""
        if read_room_record(self.record) is None:
            return
        room = self._context.room
        room.on("participant_connected", self._on_connected)
        room.on("reconnected", self._on_reconnected)
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._write()
                await asyncio.sleep(budget.STORE_PAUSE_SECONDS)
        finally:
            room.off("participant_connected", self._on_connected)
            room.off("reconnected", self._on_reconnected)

    def _on_connected(self, participant: rtc.RemoteParticipant) -> None:
        """A caller who joins again has lost the attribute."""
        if participant.identity == self._caller.identity:
            self._changed.set()

    def _on_reconnected(self) -> None:
        """LiveKit may have restarted."""
        self._record_may_be_lost = True
        self._changed.set()

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(budget.STORE_SECONDS):
                if self._record_may_be_lost:
                    await self._restore_record()
                if self._turns:
                    await self._store_turns()
        except Exception as error:  # the call continues, whatever fails here
            if not self._has_failed:
                logger.warning(
                    "could not store the state of the call in LiveKit", extra={"error": type(error).__name__}
                )
            self._has_failed = True
            asyncio.get_running_loop().call_later(budget.STORE_RETRY_SECONDS, self._changed.set)

    async def _store_turns(self) -> None:
        attributes = {TURNS_ATTRIBUTE: render_turns(self._turns, taken_bytes=self._taken_bytes())}
        await self._context.api.room.update_participant(
            api.UpdateParticipantRequest(
                room=self._context.room.name, identity=self._caller.identity, attributes=attributes
            )
        )

    def _taken_bytes(self) -> int:
        """Return the size of what else the caller's token may contain: metadata of caller and dispatch, attributes."""
        others = {key: value for key, value in self._caller.attributes.items() if key != TURNS_ATTRIBUTE}
        texts = (self._context.job.metadata, self._caller.metadata, *others.keys(), *others.values())
        return sum(len(text.encode()) for text in texts)

    async def _restore_record(self) -> None:
        """Write the room record if the room has none."""
        name, server = self._context.room.name, self._context.api.room
        rooms = (await server.list_rooms(api.ListRoomsRequest(names=[name]))).rooms
        if not rooms:
            raise LookupError("the room is not there yet")
        if read_room_record(rooms[0].metadata) is None:
            await server.update_room_metadata(api.UpdateRoomMetadataRequest(room=name, metadata=self.record))
            logger.info("room record restored")
        self._record_may_be_lost = False
