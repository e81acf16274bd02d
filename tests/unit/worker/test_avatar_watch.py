"""A frozen avatar is noticed, whatever the call does; a slow or silent one is left alone."""

import asyncio

import pytest
from livekit import rtc

from tests.unit.worker.fakes import AGENT, FakeParticipant, FakePublication, FakeRoom, FakeTrack
from tests.waiting import soon
from worker.call import budget
from worker.call.avatar_watch import AvatarWatch, Pulse, Sound

AVATAR = "tavus-avatar-agent"


@pytest.mark.parametrize(
    ("answers", "frozen"),
    [
        ([True, False, False], True),
        ([True, False, True, False], False),
        ([False] * 9, False),
        ([False, False, True, False, False], True),
    ],
    ids=["two missed", "one missed", "never answered", "answered late at first"],
)
def test_two_missed_pulses_in_a_row_are_a_frozen_avatar(answers: list[bool], frozen: bool) -> None:
    pulse = Pulse()
    assert [pulse.note(answered) for answered in answers][-1] is frozen


def test_silence_adds_up_until_the_avatar_is_heard() -> None:
    sound = Sound(limit_seconds=2.0)
    assert not sound.note(0.5, 1.0), "heard"
    assert not sound.note(0.5, 1.0)
    assert not sound.note(0.6, 1.0), "heard again"
    assert not sound.note(0.6, 1.0)
    assert sound.note(0.6, 1.0)


def test_frozen_avatar_is_noticed_within_3_s() -> None:
    """The bounds of budget.py: the freeze comes right after the last sign of life."""
    pulse = budget.AVATAR_PULSE_SECONDS + 2 * budget.AVATAR_PULSE_ANSWER_SECONDS
    sound = budget.AVATAR_SILENT_SECONDS + 2 * budget.AVATAR_SOUND_SECONDS
    assert max(pulse, sound) <= 3.0


class Scene:
    """An avatar in a room that answers pulses and whose sound the test sets."""

    def __init__(self) -> None:
        self.room = FakeRoom()
        self.track = FakeTrack()
        self.audio = FakePublication(track=self.track)
        video = FakePublication(kind=rtc.TrackKind.KIND_VIDEO, track=FakeTrack(energy=9.0))
        publications = {"video": video, "audio": self.audio}
        self.room.join(FakeParticipant(AVATAR, kind=AGENT, track_publications=publications))
        self.due = False
        self.stalls: list[str] = []
        self.watch = AvatarWatch(
            self.room.as_room(), AVATAR, speech_is_due=lambda: self.due, on_stalled=self.stalls.append
        )
        self.watch.start()


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    for bound in ("AVATAR_PULSE_SECONDS", "AVATAR_PULSE_ANSWER_SECONDS", "AVATAR_SOUND_SECONDS"):
        monkeypatch.setattr(budget, bound, 0.01)
    monkeypatch.setattr(budget, "AVATAR_SILENT_SECONDS", 0.05)
    return Scene()


async def test_frozen_avatar_is_noticed_while_it_need_not_speak(scene: Scene) -> None:
    await soon(lambda: scene.room.pulses > 2)
    assert scene.stalls == []
    scene.room.answers_pulses = False
    await soon(lambda: scene.stalls)
    assert scene.stalls == ["the avatar does not respond"]


async def test_slow_avatar_that_sends_packets_is_not_frozen(scene: Scene) -> None:
    await soon(lambda: scene.room.pulses > 2)
    scene.track.packets_per_reading = 1
    scene.room.answers_pulses = False
    sent = scene.room.pulses
    await soon(lambda: scene.room.pulses > sent + 5)
    assert scene.stalls == []
    scene.track.packets_per_reading = 0
    await soon(lambda: scene.stalls)


async def test_pulses_do_not_count_while_the_own_connection_is_lost(scene: Scene) -> None:
    await soon(lambda: scene.room.pulses > 2)
    scene.room.connection_state = rtc.ConnectionState.CONN_RECONNECTING
    scene.room.answers_pulses = False
    sent = scene.room.pulses
    await soon(lambda: scene.room.pulses > sent + 5)
    assert scene.stalls == []
    scene.room.connection_state = rtc.ConnectionState.CONN_CONNECTED
    await soon(lambda: scene.stalls)


async def test_pulses_that_were_not_sent_do_not_count(scene: Scene) -> None:
    await soon(lambda: scene.room.pulses > 2)
    scene.room.sends = False
    sent = scene.room.pulses
    await soon(lambda: scene.room.pulses > sent + 5)
    assert scene.stalls == [], "the agent has left the room"


async def test_avatar_that_plays_nothing_is_noticed(scene: Scene) -> None:
    scene.due = True
    await soon(lambda: scene.stalls)
    assert scene.stalls == ["the avatar does not play the agent's audio"]
    assert scene.audio.subscribed


async def test_speaking_avatar_is_left_alone(scene: Scene) -> None:
    scene.due = True
    for _ in range(20):
        scene.track.energy += 0.1
        await asyncio.sleep(0.01)
    assert scene.stalls == []


async def test_interruptions_do_not_hide_a_mute_avatar(scene: Scene) -> None:
    async with asyncio.timeout(20):
        while not scene.stalls:
            scene.due = not scene.due  # each part is shorter than the limit
            await asyncio.sleep(0.02)


async def test_silent_avatar_may_be_silent_while_nothing_is_due(scene: Scene) -> None:
    await asyncio.sleep(0.15)
    assert scene.stalls == []


async def test_avatar_without_an_audio_track_is_mute(scene: Scene) -> None:
    del scene.room.remote_participants[AVATAR].track_publications["audio"]
    scene.due = True
    await soon(lambda: scene.stalls)


async def test_stopped_watch_reports_nothing(scene: Scene) -> None:
    await soon(lambda: scene.room.pulses > 2)
    scene.watch.stop()
    scene.due, scene.room.answers_pulses = True, False
    await asyncio.sleep(0.15)
    assert scene.stalls == []
