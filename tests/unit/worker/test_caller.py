"""Which participant is the caller, and when the caller has left."""

import asyncio

import pytest
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

from tests.unit.worker.fakes import AGENT, JOINED, SIP, FakeParticipant, FakePublication, FakeRoom
from worker.call import budget
from worker.call.caller import SUBSCRIBE_ATTEMPTS, SUBSCRIBE_SECONDS, Caller


class Scene:
    def __init__(self, identity: str = "") -> None:
        self.room = FakeRoom()
        self.left = asyncio.Event()
        self.caller = Caller(self.room.as_room(), identity, on_left=self.left.set)

    def ring(self, **attributes: str) -> None:
        """Let a telephone join that rings."""
        self.caller.watch()
        self.room.join(FakeParticipant("sip_1", kind=SIP, attributes={"sip.callStatus": "ringing"} | attributes))

    async def arrived(self) -> bool:
        try:
            await asyncio.wait_for(self.caller.arrived(), 0.01)
        except TimeoutError:
            return False
        return True


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "REJOIN_SECONDS", 0.05)


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


@pytest.mark.parametrize("status", ["dialing", "ringing", "automation"])
async def test_telephone_arrives_when_it_answers(status: str) -> None:
    scene = Scene()
    scene.ring(**{"sip.callStatus": status})
    await asyncio.wait_for(scene.caller.joined(), 1)
    assert scene.caller.is_telephone
    assert not await scene.arrived()
    scene.room.change("sip_1", {"sip.callStatus": "active"})
    assert await scene.arrived()


@pytest.mark.parametrize("attributes", [{"sip.callStatus": "active"}, {"sip.callStatus": ""}], ids=["active", "none"])
async def test_telephone_that_has_answered_arrives_at_once(attributes: dict[str, str]) -> None:
    scene = Scene()
    scene.ring(**attributes)
    assert await scene.arrived()


async def test_browser_arrives_whatever_its_attributes_say() -> None:
    scene = Scene()
    scene.caller.watch()
    scene.room.join(FakeParticipant("salma", attributes={"sip.callStatus": "ringing"}))
    assert await scene.arrived()
    assert not scene.caller.is_telephone
    assert scene.caller.telephone_facts == {}


@pytest.mark.parametrize("answered", [True, False], ids=["after the answer", "while it rings"])
@pytest.mark.parametrize("way", ["status", "departure"])
async def test_hang_up_has_no_rejoin_window(monkeypatch: pytest.MonkeyPatch, answered: bool, way: str) -> None:
    monkeypatch.setattr(budget, "REJOIN_SECONDS", 600)
    scene = Scene()
    scene.ring()
    if answered:
        scene.room.change("sip_1", {"sip.callStatus": "active"})
    if way == "status":
        scene.room.change("sip_1", {"sip.callStatus": "hangup"})
    else:
        scene.room.leave("sip_1")
    assert scene.left.is_set()
    assert scene.caller.has_arrived is answered


async def test_attributes_of_other_participants_are_ignored() -> None:
    scene = Scene()
    scene.ring()
    scene.room.join(FakeParticipant("sip_2", kind=SIP, attributes={"sip.callStatus": "ringing"}))
    scene.room.change("sip_2", {"sip.callStatus": "active"})
    assert not await scene.arrived()
    scene.room.change("sip_2", {"sip.callStatus": "hangup"})
    assert not scene.left.is_set()


async def test_number_and_trunk_of_a_telephone_are_bounded_facts() -> None:
    scene = Scene()
    attributes = {"sip.phoneNumber": "+963" * 100, "sip.trunkPhoneNumber": "", "sip.trunkID": "ST_1", "sip.h.x": "no"}
    scene.ring(**attributes)
    assert scene.caller.telephone_facts == {"phoneNumber": "+963" * 16, "trunkID": "ST_1"}


async def test_unwatched_departure_is_ignored() -> None:
    scene = Scene()
    scene.caller.watch()
    scene.room.join(FakeParticipant("salma"))
    scene.room.leave("salma")
    scene.caller.unwatch()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.left.wait(), 0.15)


async def test_subscription_that_a_reconnection_lost_is_asked_for_again(virtual_time: object) -> None:
    scene = Scene()
    scene.caller.watch()
    lost = FakePublication()
    salma = FakeParticipant("salma")
    scene.room.join(salma)
    salma.track_publications["TR_2"] = lost
    asked: list[bool] = []

    def set_subscribed(subscribed: bool) -> None:
        asked.append(subscribed)  # the library drops the first two
        lost.subscribed = len(asked) == 3

    lost.set_subscribed = set_subscribed  # type: ignore[method-assign]
    scene.room.emit("reconnecting")
    scene.room.emit("reconnected")
    await asyncio.sleep(SUBSCRIBE_SECONDS * SUBSCRIBE_ATTEMPTS)
    assert asked == [True, True, True]
    scene.caller.unwatch()
