"""The agent's audio output: a prepared phrase between speeches and within one, unnoticed by the SDK."""

import asyncio
import math

import pytest

from tests.unit.worker.fakes import FakeSink, silence
from worker.call import budget
from worker.call.reply_output import ReplyOutput

FRAME = silence(0.05)


class Scene:
    """An output to a sink that plays when the test says, and what the output reports."""

    def __init__(self) -> None:
        self.sink = FakeSink()
        self.output = ReplyOutput(self.sink)
        self.until: list[float] = []
        self.ended: list[bool] = []
        self.started: list[object] = []
        self.finished: list[object] = []
        self.output.on_audio = self.until.append
        self.output.on_ended = self.ended.append
        self.output.on("playback_started", self.started.append)
        self.output.on("playback_finished", self.finished.append)


async def test_speech_is_passed_on_and_reported() -> None:
    scene = Scene()
    now = asyncio.get_running_loop().time()
    for _ in range(20):
        await scene.output.capture_frame(FRAME)
    assert scene.sink.frames == 20
    assert scene.until[-1] - scene.until[0] == pytest.approx(0.95) and scene.until[0] >= now + 0.05
    scene.output.flush()
    assert scene.ended == [False] and scene.sink.flushed == 1
    scene.sink.play(1.0)
    assert len(scene.finished) == 1


async def test_phrase_between_speeches_is_not_noticed() -> None:
    scene = Scene()
    await scene.output.play(silence(0.5))
    scene.sink.on_playback_started(created_at=1.0)
    assert (scene.sink.frames, scene.sink.flushed) == (10, 1)
    scene.sink.play(0.5)
    assert (scene.started, scene.finished, scene.until, scene.ended) == ([], [], [], [])
    assert scene.output.captured_playout_segments == 0


async def test_speech_without_audio_leaves_the_phrase_alone() -> None:
    scene = Scene()
    await scene.output.play(silence(0.5))
    scene.output.flush()
    assert (scene.sink.flushed, scene.ended) == (1, [False])
    scene.sink.play(0.5)
    assert scene.finished == []


async def test_speech_waits_for_the_end_of_the_phrase() -> None:
    scene = Scene()
    await scene.output.play(silence(0.5))
    speech = asyncio.create_task(scene.output.capture_frame(FRAME))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (scene.sink.frames, scene.until) == (10, [])
    scene.sink.play(0.5)
    await asyncio.wait_for(speech, 5)
    assert scene.sink.frames == 11 and len(scene.until) == 1


async def test_speech_does_not_wait_for_an_end_that_is_never_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "PREPARED_PLAYOUT_SECONDS", 0.01)
    scene = Scene()
    await scene.output.play(silence(0.5))
    await asyncio.wait_for(scene.output.capture_frame(FRAME), 5)
    assert scene.sink.frames == 11


async def test_phrase_within_a_speech_is_part_of_it() -> None:
    scene = Scene()
    await scene.output.capture_frame(FRAME)
    await scene.output.play(silence(0.5))
    assert (scene.sink.frames, scene.sink.flushed) == (11, 0)
    assert scene.until[-1] - scene.until[0] == pytest.approx(0.5, abs=0.2)
    scene.output.flush()
    scene.sink.play(0.55)
    assert len(scene.finished) == 1


async def test_phrase_is_not_played_over_a_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "PLAY_SECONDS", 0.01)
    scene = Scene()
    await scene.output.capture_frame(FRAME)
    scene.output.flush()
    with pytest.raises(TimeoutError):
        await scene.output.play(silence(0.5))
    assert scene.sink.frames == 1


async def test_interruption_stops_the_phrase() -> None:
    scene = Scene()
    await scene.output.play(silence(0.5))
    scene.output.clear_buffer()
    assert scene.sink.cleared == 1
    scene.sink.on_playback_finished(playback_position=0.1, interrupted=True)
    assert scene.finished == []
    await asyncio.wait_for(scene.output.capture_frame(FRAME), 5)


async def test_interrupted_speech_is_reported() -> None:
    scene = Scene()
    await scene.output.capture_frame(FRAME)
    scene.output.clear_buffer()
    assert scene.ended == [True]


async def test_pause_makes_the_speech_last_longer() -> None:
    scene = Scene()
    await scene.output.capture_frame(silence(10.0))
    before = scene.until[-1]
    scene.output.pause()
    scene.output.pause()
    assert scene.until[-1] == math.inf
    await scene.output.capture_frame(FRAME)
    assert scene.until[-1] == math.inf
    await asyncio.sleep(0.05)
    scene.output.resume()
    scene.output.resume()
    assert before + 0.05 < scene.until[-1] < math.inf
