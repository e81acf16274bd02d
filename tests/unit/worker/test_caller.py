"""Which participant is the caller, and when the caller has left."""

import asyncio

import pytest
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

from tests.unit.worker.fakes import AGENT, JOINED, SIP, FakeParticipant, FakePublication, FakeRoom
from worker.call import caller as module
from worker.call.caller import Caller


class Scene:
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
        (FakeParticipant("avatar", attributes={ATTRIBUTE_PUBLISH_ON_BEHALF: "agent"}), "", False),
        (FakeParticipant("salma"), "salma", True),
        (FakeParticipant("omar"), "salma", False),
    ],
    ids=["a browser", "a phone", "an agent", "an avatar", "the expected identity", "another identity"],
)
async def test_caller_is_recognised(participant: FakeParticipant, identity: str, is_caller: bool) -> None:
    scene = Scene(identity)
    scene.caller.watch()
    scene.room.join(participant)
    assert await scene.arrived() is is_caller


async def test_caller_who_joined_before_the_agent_is_found() -> None:
    scene = Scene()
    scene.room.join(FakeParticipant("salma"))
    scene.caller.watch()
    assert await scene.arrived()
    assert scene.caller.identity == "salma"


async def test_first_participant_stays_the_caller() -> None:
    scene = Scene()
    scene.caller.watch()
    scene.room.join(FakeParticipant("salma"))
    scene.room.join(FakeParticipant("omar"))
    assert scene.caller.identity == "salma"
    assert scene.caller.others_present()
    scene.room.leave("omar")
    assert not scene.caller.others_present()


async def test_caller_is_connected_when_media_are_active() -> None:
    scene = Scene()
    scene.caller.watch()
    participant = FakeParticipant("salma", state=JOINED)
    scene.room.join(participant)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.caller.connected(), 0.01)
    scene.room.emit("participant_active", participant)
    await asyncio.wait_for(scene.caller.connected(), 1)


async def test_agent_subscribes_to_the_callers_audio_only() -> None:
    scene = Scene()
    callers, avatars = FakePublication(), FakePublication()
    scene.room.join(FakeParticipant("salma", track_publications={"mic": callers}))
    scene.caller.watch()
    scene.room.emit("track_published", avatars, FakeParticipant("avatar", kind=AGENT))
    assert callers.subscribed and not avatars.subscribed


async def test_caller_has_left_after_the_rejoin_time() -> None:
    scene = Scene()
    scene.caller.watch()
    scene.room.join(FakeParticipant("salma"))
    scene.room.leave("salma")
    assert not scene.left.is_set()
    await asyncio.wait_for(scene.left.wait(), 1)


async def test_caller_who_rejoins_has_not_left() -> None:
    scene = Scene()
    scene.caller.watch()
    scene.room.join(FakeParticipant("salma"))
    scene.room.leave("salma")
    scene.room.join(FakeParticipant("salma"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)


async def test_departure_of_another_participant_is_ignored() -> None:
    scene = Scene()
    scene.caller.watch()
    scene.room.join(FakeParticipant("salma"))
    scene.room.join(FakeParticipant("omar"))
    scene.room.leave("omar")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)


@pytest.mark.parametrize("returns", [True, False])
async def test_lost_connection_of_the_agent_is_no_departure(returns: bool) -> None:
    scene = Scene()
    scene.caller.watch()
    scene.room.join(FakeParticipant("salma"))
    scene.room.emit("reconnecting")
    scene.room.leave("salma")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)
    if returns:
        scene.room.join(FakeParticipant("salma"))
    scene.room.emit("reconnected")
    if returns:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scene.left.wait(), 0.15)
    else:
        await asyncio.wait_for(scene.left.wait(), 1)


async def test_unwatched_departure_is_ignored() -> None:
    scene = Scene()
    scene.caller.watch()
    scene.room.join(FakeParticipant("salma"))
    scene.room.leave("salma")
    scene.caller.unwatch()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)
