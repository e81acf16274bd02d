"""An output that detects when nothing plays."""

import asyncio

import pytest
from livekit import rtc

from tests.unit.worker.fakes import FakeSink, silence
from worker.call import budget
from worker.call.watched_output import WatchedOutput

GRACE = 0.05


class Scene:
    def __init__(self) -> None:
        self.sink = FakeSink()
        self.stalled = asyncio.Event()
        self.output = WatchedOutput(self.sink, on_stalled=self.stalled.set, grace_seconds=GRACE)

    async def say(self, seconds: float) -> None:
        await self.output.capture_frame(silence(seconds))
        self.output.flush()

    async def stalls(self, within: float = 0.3) -> bool:
        try:
            await asyncio.wait_for(self.stalled.wait(), within)
        except TimeoutError:
            return False
        return True


async def test_audio_reaches_the_next_output() -> None:
    scene = Scene()
    await scene.say(0.05)
    scene.output.clear_buffer()
    assert (scene.sink.frames, scene.sink.flushed, scene.sink.cleared) == (1, 1, 1)
    assert scene.output.sample_rate == scene.sink.sample_rate


@pytest.mark.parametrize("failure", [rtc.StreamError("unable to send packet"), AssertionError()], ids=repr)
async def test_broken_stream_is_reported_once_and_stalls(
    caplog: pytest.LogCaptureFixture, failure: rtc.StreamError | AssertionError
) -> None:
    scene = Scene()
    scene.sink.failure = failure
    for _ in range(3):
        await scene.output.capture_frame(silence(0.05))
    scene.output.flush()
    assert [record.message for record in caplog.records] == ["avatar rejected audio"]
    assert await scene.stalls(2)
    scene.sink.failure = None
    await scene.say(0.05)
    assert scene.sink.frames == 1, "the next segment is tried again"


async def test_playback_in_time_does_not_stall() -> None:
    scene = Scene()
    for _ in range(2):
        await scene.say(0.05)
        scene.sink.play(0.05)
    assert not await scene.stalls()


async def test_missing_playback_stalls_after_audio_length_and_grace() -> None:
    scene = Scene()
    begun = asyncio.get_running_loop().time()
    await scene.say(0.1)
    assert await scene.stalls(2)
    assert asyncio.get_running_loop().time() - begun >= 0.1 + GRACE


async def test_stall_after_a_played_segment_is_detected() -> None:
    scene = Scene()
    await scene.say(0.05)
    scene.sink.play(0.05)
    await scene.say(0.05)
    assert await scene.stalls(2)


async def test_interrupted_speech_that_is_never_reported_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "AVATAR_CLEAR_SECONDS", GRACE)
    scene = Scene()
    await scene.say(60)
    scene.output.clear_buffer()
    assert not scene.output.is_due()
    assert await scene.stalls(2), "the caller interrupts, and the avatar does not answer"


async def test_interrupted_speech_that_is_reported_does_not_stall() -> None:
    scene = Scene()
    await scene.output.capture_frame(silence(60))
    scene.output.clear_buffer()
    scene.output.flush()
    scene.sink.play(0.05)
    assert not await scene.stalls()


async def test_speech_is_due_until_it_has_had_time_to_play() -> None:
    scene = Scene()
    assert not scene.output.is_due()
    await scene.output.capture_frame(silence(0.05))
    await scene.output.capture_frame(silence(0.05))
    assert scene.output.is_due()
    await asyncio.sleep(0.12)
    assert not scene.output.is_due()
    await scene.output.capture_frame(silence(60))
    assert scene.output.is_due(), "more audio came later"
    scene.sink.play(0.2)
    assert not scene.output.is_due()


async def test_frame_that_a_frozen_avatar_does_not_take_is_let_go() -> None:
    scene = Scene()
    scene.sink.takes_frames.clear()
    capturing = asyncio.create_task(scene.output.capture_frame(silence(0.05)))
    await asyncio.sleep(0.01)
    assert not capturing.done()
    scene.output.on_detached()
    await asyncio.wait_for(capturing, 1)
    await asyncio.wait_for(scene.output.capture_frame(silence(0.05)), 1)
    assert scene.sink.frames == 0


async def test_cancelled_capture_stays_cancelled() -> None:
    scene = Scene()
    scene.sink.takes_frames.clear()
    capturing = asyncio.create_task(scene.output.capture_frame(silence(0.05)))
    await asyncio.sleep(0.01)
    capturing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await capturing


@pytest.mark.parametrize("spoken", [True, False], ids=["with audio", "without audio"])
async def test_detached_output_does_not_stall(spoken: bool) -> None:
    scene = Scene()
    if spoken:
        await scene.say(0.02)
    else:
        scene.output.flush()
    scene.output.on_detached()
    assert not await scene.stalls()
