"""A conversation ends and frees its seat, whatever the avatar does."""

import asyncio

import pytest

from devkit.providers.tavus import conversations
from devkit.providers.tavus.avatar import AvatarError
from devkit.providers.tavus.conversations import Conversation, Conversations, NoSeat, parse

REQUEST = parse({"face_id": "r1", "properties": {"livekit_ws_url": "ws://x", "livekit_room_token": "t"}})


class StubAvatar:
    """Replaces the avatar in the room; each test sets its faults."""

    identity, room_name = "tavus-avatar-agent", "room"
    join_error: Exception | None = None
    leave_error: Exception | None = None

    def __init__(self, face_id: str) -> None:
        self.left = False

    async def join(self, url: str, token: str, within_seconds: float) -> None:
        if self.join_error:
            raise self.join_error

    async def stay(self, at_most_seconds: float) -> str:
        await asyncio.sleep(0)
        return "the agent left the room"

    async def leave(self) -> None:
        if self.leave_error:
            raise self.leave_error


async def lived(conversation: Conversation) -> Conversation:
    conversation.start(joins=True)
    assert conversation._task is not None
    async with asyncio.timeout(5):
        await conversation._task
    return conversation


@pytest.fixture
def avatar(monkeypatch: pytest.MonkeyPatch) -> type[StubAvatar]:
    class Avatar(StubAvatar):
        pass

    monkeypatch.setattr(conversations, "Avatar", Avatar)
    return Avatar


async def test_conversation_ends_when_the_agent_leaves(avatar: type[StubAvatar]) -> None:
    report = (await lived(Conversation(REQUEST))).report()
    assert (report["status"], report["joined"], report["room"]) == ("ended", True, "room")
    assert report["end_reason"] == "the agent left the room"


async def test_failed_join_is_recorded(avatar: type[StubAvatar]) -> None:
    avatar.join_error = AvatarError("could not join ws://x: refused")
    report = (await lived(Conversation(REQUEST))).report()
    assert (report["status"], report["joined"]) == ("ended", False)
    assert report["end_reason"] == "could not join ws://x: refused"


async def test_conversation_ends_even_if_the_avatar_fails_to_leave(avatar: type[StubAvatar]) -> None:
    avatar.leave_error = AttributeError("half started")
    assert (await lived(Conversation(REQUEST))).report()["status"] == "ended"


async def test_ended_conversation_frees_its_seat(avatar: type[StubAvatar]) -> None:
    all_of_them = Conversations()
    first = all_of_them.create(REQUEST, seats=1, joins=False)
    with pytest.raises(NoSeat):
        all_of_them.create(REQUEST, seats=1, joins=False)
    await first.end("ended by request")
    second = all_of_them.create(REQUEST, seats=1, joins=False)
    assert [conversation.id for conversation in all_of_them.all()] == [first.id, second.id]
    await all_of_them.end_all("done")


async def test_conversation_without_participants_ends_after_its_timeout() -> None:
    properties = {"livekit_ws_url": "ws://x", "livekit_room_token": "t", "participant_absent_timeout": 1}
    conversation = Conversation(parse({"face_id": "r1", "properties": properties}))
    conversation.start(joins=False)
    assert conversation._task is not None
    async with asyncio.timeout(5):
        await conversation._task
    assert conversation.end_reason == "participant_absent_timeout reached"
