"""A pause lets the avatar drop what it has not played, and a resumption sends it again."""

import asyncio

import pytest
from livekit.agents.voice.io import PlaybackFinishedEvent

from tests.unit.worker.fakes import FakeSink, silence
from tests.waiting import soon
from worker.call.pausable_output import PausableOutput
from worker.call.watched_output import WatchedOutput


class Scene:
    """An output in front of an avatar, and what the session hears of it."""

    def __init__(self) -> None:
        self.sink = FakeSink()
        self.output = PausableOutput(WatchedOutput(self.sink, on_stalled=lambda: None))
        self.reports: list[tuple[float, bool]] = []
        self.starts = 0
        self.output.on("playback_finished", self._on_finished)
        self.output.on("playback_started", self._on_started)

    def _on_finished(self, event: PlaybackFinishedEvent) -> None:
        self.reports.append((round(event.playback_position, 3), event.interrupted))

    def _on_started(self, _: object) -> None:
        self.starts += 1

    async def say(self, frames: int, *, flush: bool = True) -> None:
        """Push frames of 0.1 s."""
        for _ in range(frames):
            await self.output.capture_frame(silence(0.1))
        if flush:
            self.output.flush()

    async def pause(self, *, played: float) -> None:
        """Pause; the avatar has played this much of what it was sent."""
        cleared = self.sink.cleared
        self.output.pause()
        await soon(lambda: self.sink.cleared > cleared)
        self.sink.on_playback_finished(playback_position=played, interrupted=True)

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_avatar_can_pause(scene: Scene) -> None:
    assert scene.output.can_pause


async def test_speech_without_a_pause_passes_through(scene: Scene) -> None:
    await scene.say(5)
    scene.sink.on_playback_started(created_at=1.0)
    scene.sink.play(0.5)
    assert (scene.sink.frames, scene.sink.flushed, scene.sink.cleared) == (5, 1, 0)
    assert (scene.reports, scene.starts) == ([(0.5, False)], 1)


async def test_rest_of_the_speech_is_sent_again_after_a_pause(scene: Scene) -> None:
    await scene.say(5)
    scene.sink.on_playback_started(created_at=1.0)
    await scene.pause(played=0.2)
    assert scene.reports == [], "the speech is not over"
    scene.output.resume()
    await soon(lambda: scene.sink.frames == 5 + 3)
    await scene.settle()
    scene.sink.on_playback_started(created_at=2.0)
    scene.sink.play(0.3)
    assert (scene.reports, scene.starts) == ([(0.5, False)], 1)
    await asyncio.wait_for(scene.output.wait_for_playout(), 1)


async def test_speech_may_pause_more_than_once(scene: Scene) -> None:
    await scene.say(6)
    for played in (0.2, 0.1):
        await scene.pause(played=played)
        scene.output.resume()
        await scene.settle()
    scene.sink.play(0.3)
    assert scene.reports == [(0.6, False)]


async def test_frames_that_come_while_paused_are_kept(scene: Scene) -> None:
    await scene.say(2, flush=False)
    await scene.pause(played=0.1)
    await scene.say(3)
    assert scene.sink.frames == 2
    scene.output.resume()
    await soon(lambda: scene.sink.frames == 2 + 1 + 3)
    await scene.settle()
    scene.sink.play(0.4)
    assert scene.reports == [(0.5, False)]


async def test_speech_that_begins_while_paused_waits(scene: Scene) -> None:
    scene.output.pause()
    await scene.say(2)
    assert scene.sink.frames == 0
    scene.output.resume()
    await soon(lambda: scene.sink.frames == 2)
    await scene.settle()
    scene.sink.play(0.2)
    assert scene.reports == [(0.2, False)]


async def test_resumption_waits_for_the_avatars_report(scene: Scene) -> None:
    await scene.say(5)
    scene.output.pause()
    await soon(lambda: scene.sink.cleared)
    scene.output.resume()
    await scene.settle()
    assert scene.sink.frames == 5
    scene.sink.on_playback_finished(playback_position=0.4, interrupted=True)
    await soon(lambda: scene.sink.frames == 6)


@pytest.mark.parametrize("reported", [True, False], ids=["after the report", "before the report"])
async def test_real_interruption_ends_the_paused_speech(scene: Scene, reported: bool) -> None:
    await scene.say(5)
    if reported:
        await scene.pause(played=0.2)
        scene.output.clear_buffer()
    else:
        scene.output.pause()
        scene.output.clear_buffer()
        await soon(lambda: scene.sink.cleared)
        scene.sink.on_playback_finished(playback_position=0.2, interrupted=True)
    assert scene.reports == [(0.2, True)]
    scene.output.resume()
    await scene.settle()
    assert scene.sink.frames == 5, "nothing is left to say"
    await scene.say(1)
    assert scene.sink.frames == 6, "the next speech plays"
    scene.sink.play(0.1)
    assert scene.reports[1:] == [(0.1, False)]


async def test_interruption_before_anything_was_sent_ends_the_speech(scene: Scene) -> None:
    scene.output.pause()
    await scene.say(2)
    scene.output.clear_buffer()
    assert scene.reports == [(0.0, True)]


async def test_interruption_without_a_pause_passes_through(scene: Scene) -> None:
    await scene.say(5)
    scene.output.clear_buffer()
    assert scene.sink.cleared == 1
    scene.sink.on_playback_finished(playback_position=0.3, interrupted=True)
    assert scene.reports == [(0.3, True)]


@pytest.mark.parametrize("interrupted", [True, False])
async def test_pause_after_the_last_word_loses_no_report(scene: Scene, interrupted: bool) -> None:
    await scene.say(3)
    await scene.pause(played=0.3)
    if interrupted:
        scene.output.clear_buffer()
    scene.output.resume()
    await soon(lambda: scene.reports)
    assert scene.reports == [(0.3, interrupted)]
    assert scene.sink.frames == 3


async def test_short_pause_that_stopped_nothing_changes_nothing(scene: Scene) -> None:
    await scene.say(3)
    scene.output.pause()
    scene.output.resume()
    await scene.settle()
    scene.sink.play(0.3)
    assert (scene.sink.frames, scene.sink.cleared, scene.reports) == (3, 0, [(0.3, False)])


async def test_speech_before_the_present_one_is_reported_first(scene: Scene) -> None:
    await scene.say(2)
    await scene.say(3)
    scene.sink.play(0.2)
    scene.sink.play(0.3)
    assert scene.reports == [(0.2, False), (0.3, False)]


async def test_detached_output_sends_nothing_more(scene: Scene) -> None:
    await scene.say(5)
    await scene.pause(played=0.2)
    scene.output.resume()
    scene.output.on_detached()
    await scene.settle()
    assert scene.sink.frames == 5
