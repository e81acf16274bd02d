"""Who the caller is, and when they are gone."""

import asyncio

import pytest
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

from tests.unit.worker.fakes import AGENT, JOINED, SIP, FakeParticipant, FakePublication, FakeRoom
from worker.call import caller as module
from worker.call.caller import Caller


class _Scene:
    def __init__(self, identity: str = "") -> None:
        self.room = FakeRoom()
        self.left = asyncio.Event()
        self.caller = Caller(self.room.as_room(), identity, on_left=self.left.set)

    async def arrived(self) -> bool:
        try:
            await asyncio.wait_for(self.caller.arrived(), 0.01)
        except TimeoutError:
            return False
        return True


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REJOIN_SECONDS", 0.05)


@pytest.mark.parametrize(
    ("participant", "identity", "is_caller"),
    [
        (FakeParticipant("salma"), "", True),
        (FakeParticipant("+963", kind=SIP), "", True),
        (FakeParticipant("bot", kind=AGENT), "", False),
        (FakeParticipant("face", attributes={ATTRIBUTE_PUBLISH_ON_BEHALF: "agent"}), "", False),
        (FakeParticipant("salma"), "salma", True),
        (FakeParticipant("omar"), "salma", False),
    ],
    ids=["a person", "a phone", "an agent", "an avatar", "the one expected", "somebody else"],
)
async def test_who_is_the_caller(participant: FakeParticipant, identity: str, is_caller: bool) -> None:
    scene = _Scene(identity)
    scene.caller.watch()
    scene.room.come(participant)
    assert await scene.arrived() is is_caller


async def test_a_caller_who_was_there_first_is_seen() -> None:
    scene = _Scene()
    scene.room.come(FakeParticipant("salma"))
    scene.caller.watch()
    assert await scene.arrived()
    assert scene.caller.identity == "salma"


async def test_the_first_to_come_stays_the_caller() -> None:
    scene = _Scene()
    scene.caller.watch()
    scene.room.come(FakeParticipant("salma"))
    scene.room.come(FakeParticipant("omar"))
    assert scene.caller.identity == "salma"
    assert scene.caller.others_present()
    scene.room.leave("omar")
    assert not scene.caller.others_present()


async def test_connected_means_that_media_flow() -> None:
    scene = _Scene()
    scene.caller.watch()
    person = FakeParticipant("salma", state=JOINED)
    scene.room.come(person)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.caller.connected(), 0.01)
    scene.room.emit("participant_active", person)
    await asyncio.wait_for(scene.caller.connected(), 1)


async def test_only_the_callers_audio_is_taken() -> None:
    scene = _Scene()
    mine, avatars = FakePublication(), FakePublication()
    scene.room.come(FakeParticipant("salma", track_publications={"mic": mine}))
    scene.caller.watch()
    scene.room.emit("track_published", avatars, FakeParticipant("face", kind=AGENT))
    assert mine.subscribed and not avatars.subscribed


async def test_a_caller_who_leaves_is_gone_after_a_while() -> None:
    scene = _Scene()
    scene.caller.watch()
    scene.room.come(FakeParticipant("salma"))
    scene.room.leave("salma")
    assert not scene.left.is_set()
    await asyncio.wait_for(scene.left.wait(), 1)


async def test_a_caller_who_comes_back_is_not_gone() -> None:
    scene = _Scene()
    scene.caller.watch()
    scene.room.come(FakeParticipant("salma"))
    scene.room.leave("salma")
    scene.room.come(FakeParticipant("salma"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)


async def test_somebody_elses_leaving_changes_nothing() -> None:
    scene = _Scene()
    scene.caller.watch()
    scene.room.come(FakeParticipant("salma"))
    scene.room.come(FakeParticipant("omar"))
    scene.room.leave("omar")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)


@pytest.mark.parametrize("returns", [True, False])
async def test_a_lost_connection_of_the_agent_is_not_the_callers_leaving(returns: bool) -> None:
    scene = _Scene()
    scene.caller.watch()
    scene.room.come(FakeParticipant("salma"))
    scene.room.emit("reconnecting")
    scene.room.leave("salma")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)
    if returns:
        scene.room.come(FakeParticipant("salma"))
    scene.room.emit("reconnected")
    if returns:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scene.left.wait(), 0.15)
    else:
        await asyncio.wait_for(scene.left.wait(), 1)


async def test_after_unwatching_nothing_happens() -> None:
    scene = _Scene()
    scene.caller.watch()
    scene.room.come(FakeParticipant("salma"))
    scene.room.leave("salma")
    scene.caller.unwatch()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)
