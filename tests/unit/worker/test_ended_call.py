"""What the main process does in the room of a call that it ends."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import api
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

from agentspec.wire import CallOutcome, RoomRecord, read_room_record
from tests.unit.worker.fakes import AGENT, SIP, STANDARD
from worker.call import budget
from worker.server import ended_call

RECORD = RoomRecord(
    call_id="c", agent="agents/ornina", identity="caller", created_at=1.0, request_hash="h", agent_name="ornina"
).model_dump_json(by_alias=True)  # fmt: skip
CALLER = api.ParticipantInfo(identity="caller", kind=cast(Any, STANDARD))
TELEPHONE = api.ParticipantInfo(identity="caller", kind=cast(Any, SIP))
LISTENER = api.ParticipantInfo(identity="listener", kind=cast(Any, STANDARD))
AVATAR = api.ParticipantInfo(identity="avatar", kind=cast(Any, STANDARD), attributes={ATTRIBUTE_PUBLISH_ON_BEHALF: "a"})
BOT = api.ParticipantInfo(identity="bot", kind=cast(Any, AGENT))


class FakeRooms:
    """LiveKit's room service with one room."""

    def __init__(self, metadata: str | None, *participants: api.ParticipantInfo) -> None:
        self.metadata = metadata
        """None: the room does not exist."""
        self._participants = participants
        self.deleted = False
        self.removed: list[tuple[str, str]] = []
        self.failure: Exception | None = None
        self.hangs = False

    async def list_rooms(self, request: api.ListRoomsRequest) -> api.ListRoomsResponse:
        assert list(request.names) == ["ornina-1"]
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return api.ListRoomsResponse(rooms=[] if self.metadata is None else [api.Room(metadata=self.metadata)])

    async def update_room_metadata(self, request: api.UpdateRoomMetadataRequest) -> None:
        self.metadata = request.metadata

    async def list_participants(self, _: api.ListParticipantsRequest) -> api.ListParticipantsResponse:
        return api.ListParticipantsResponse(participants=self._participants)

    async def remove_participant(self, participant: api.RoomParticipantIdentity) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        self.removed.append((participant.room, participant.identity))

    async def delete_room(self, request: api.DeleteRoomRequest) -> None:
        assert request.room == "ornina-1"
        self.deleted = True


def _api(rooms: FakeRooms) -> api.LiveKitAPI:
    return cast(api.LiveKitAPI, SimpleNamespace(room=rooms))


async def test_outcome_is_recorded_for_the_gateway() -> None:
    rooms = FakeRooms(json.dumps(json.loads(RECORD) | {"newer": "field"}))
    await ended_call.record_outcome(_api(rooms), "ornina-1", CallOutcome.MAX_LENGTH)
    record = read_room_record(rooms.metadata or "")
    assert record is not None and record.outcome is CallOutcome.MAX_LENGTH
    assert json.loads(rooms.metadata or "")["newer"] == "field"


@pytest.mark.parametrize("metadata", ["theirs", None], ids=["another back end's room", "the room is gone"])
async def test_other_rooms_keep_their_metadata(metadata: str | None) -> None:
    rooms = FakeRooms(metadata)
    await ended_call.record_outcome(_api(rooms), "ornina-1", CallOutcome.MAX_LENGTH)
    assert rooms.metadata == metadata


@pytest.mark.parametrize(
    ("metadata", "participants", "agent_follows", "deleted"),
    [
        (RECORD, [CALLER], False, True),
        (RECORD, [CALLER], True, False),
        ("theirs", [CALLER], True, True),
        ("theirs", [TELEPHONE, AVATAR, BOT], True, True),
        ("theirs", [CALLER, LISTENER], False, False),
        ("theirs", [], False, True),
        (None, [], False, False),
    ],
    ids=[
        "the call is over",
        "the gateway sends another agent",
        "no gateway sends another agent",
        "a telephone caller with avatar",
        "others are in the room",
        "the caller has left",
        "the room is gone",
    ],
)
async def test_room_is_closed_for_the_caller_alone(
    metadata: str | None, participants: list[api.ParticipantInfo], agent_follows: bool, deleted: bool
) -> None:
    rooms = FakeRooms(metadata, *participants)
    await ended_call.close(_api(rooms), "ornina-1", agent_follows=agent_follows)
    assert rooms.deleted is deleted


async def test_lost_agent_is_removed_and_the_room_stays() -> None:
    rooms = FakeRooms(RECORD, CALLER)
    await ended_call.remove_agent(_api(rooms), "ornina-1", "AJ_1")
    assert (rooms.removed, rooms.deleted) == ([("ornina-1", "agent-AJ_1")], False)


async def test_avatar_of_a_lost_agent_is_removed_with_it() -> None:
    attributes = {ATTRIBUTE_PUBLISH_ON_BEHALF: "agent-AJ_1"}
    own = api.ParticipantInfo(identity="own-avatar", kind=cast(Any, AGENT), attributes=attributes)
    rooms = FakeRooms(RECORD, CALLER, AVATAR, own)
    await ended_call.remove_agent(_api(rooms), "ornina-1", "AJ_1")
    assert rooms.removed == [("ornina-1", "agent-AJ_1"), ("ornina-1", "own-avatar")], "and no other agent's avatar"


async def test_agent_that_has_left_needs_no_removal(caplog: pytest.LogCaptureFixture) -> None:
    rooms = FakeRooms(RECORD, CALLER)
    rooms.failure = api.TwirpError(api.TwirpErrorCode.NOT_FOUND, "participant does not exist", status=404)
    await ended_call.remove_agent(_api(rooms), "ornina-1", "AJ_1")
    assert caplog.records == []


@pytest.mark.parametrize("hangs", [False, True], ids=["LiveKit fails", "LiveKit does not answer"])
async def test_unreachable_livekit_is_logged_and_holds_nothing_up(
    hangs: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(budget, "RECORD_SECONDS", 0.05)
    monkeypatch.setattr(budget, "DELETE_SECONDS", 0.05)
    rooms = FakeRooms(RECORD, CALLER)
    rooms.failure, rooms.hangs = api.TwirpError("unavailable", "down", status=503), hangs
    await ended_call.record_outcome(_api(rooms), "ornina-1", CallOutcome.MAX_LENGTH)
    await ended_call.close(_api(rooms), "ornina-1", agent_follows=False)
    await ended_call.remove_agent(_api(rooms), "ornina-1", "AJ_1")
    assert [record.message for record in caplog.records] == [
        "could not record the outcome in the room",
        "could not delete the room",
        "could not remove the lost agent",
    ]
