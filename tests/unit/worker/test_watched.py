"""An output that notices when nothing is played."""

import asyncio

import pytest

from tests.unit.worker.fakes import FakeSink, silence
from worker.call.watched_output import WatchedOutput

GRACE = 0.05


class _Scene:
    def __init__(self) -> None:
        self.sink = FakeSink()
        self.stalled = asyncio.Event()
        self.output = WatchedOutput(self.sink, on_stalled=self.stalled.set, grace=GRACE)

    async def say(self, seconds: float) -> None:
        await self.output.capture_frame(silence(seconds))
        self.output.flush()

    async def stalls(self, within: float = 0.3) -> bool:
        try:
            await asyncio.wait_for(self.stalled.wait(), within)
        except TimeoutError:
            return False
        return True


async def test_audio_passes_through() -> None:
    scene = _Scene()
    await scene.say(0.05)
    scene.output.clear_buffer()
    assert (scene.sink.frames, scene.sink.flushed, scene.sink.cleared) == (1, 1, 1)
    assert scene.output.sample_rate == scene.sink.sample_rate


async def test_what_is_played_in_time_does_not_stall() -> None:
    scene = _Scene()
    for _ in range(2):
        await scene.say(0.05)
        scene.sink.play(0.05)
    assert not await scene.stalls()


async def test_what_is_never_played_stalls_after_its_own_length_and_the_grace() -> None:
    scene = _Scene()
    begun = asyncio.get_running_loop().time()
    await scene.say(0.1)
    assert await scene.stalls(2)
    assert asyncio.get_running_loop().time() - begun >= 0.1 + GRACE


async def test_a_stall_after_a_good_segment_is_noticed() -> None:
    scene = _Scene()
    await scene.say(0.05)
    scene.sink.play(0.05)
    await scene.say(0.05)
    assert await scene.stalls(2)


@pytest.mark.parametrize("said", [True, False])
async def test_an_output_out_of_use_does_not_stall(said: bool) -> None:
    scene = _Scene()
    if said:
        await scene.say(0.02)
    else:
        scene.output.flush()
    scene.output.on_detached()
    assert not await scene.stalls()
