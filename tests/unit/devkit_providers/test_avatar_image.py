"""The simulated avatar's image, and how it follows the speech."""

import asyncio

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd

from devkit.providers.tavus.avatar import FRAME_MILLISECONDS, SAMPLE_RATE, AvatarVideo
from devkit.providers.tavus.avatar_image import HEIGHT, WIDTH, AvatarImage, loudness

PIECE = SAMPLE_RATE * FRAME_MILLISECONDS // 1000


def speech(amplitude: int) -> rtc.AudioFrame:
    samples = np.full(PIECE, amplitude, dtype=np.int16)
    return rtc.AudioFrame(samples.tobytes(), SAMPLE_RATE, 1, PIECE)


def test_loudness_ranges_from_zero_to_one() -> None:
    assert loudness(np.zeros(0, dtype=np.int16)) == 0.0
    assert loudness(np.zeros(100, dtype=np.int16)) == 0.0
    assert 0.3 < loudness(np.full(100, 2500, dtype=np.int16)) < 0.7
    assert loudness(np.full(100, -32768, dtype=np.int16)) == 1.0


def test_image_is_rgba_of_the_declared_size() -> None:
    assert len(AvatarImage("r1").draw(0.0, 0.0)) == WIDTH * HEIGHT * 4


def test_mouth_opens_with_speech() -> None:
    image = AvatarImage("r1")
    assert image.draw(1.0, 0.0) != image.draw(1.0, 1.0)


def test_image_moves_during_silence() -> None:
    image = AvatarImage("r1")
    assert len({image.draw(number * FRAME_MILLISECONDS / 1000, 0.0) for number in range(25)}) == 25


def test_avatars_have_different_images() -> None:
    assert AvatarImage("r1").draw(0.0, 0.0) != AvatarImage("r2").draw(0.0, 0.0)


async def test_each_piece_of_speech_has_a_video_frame_in_order() -> None:
    generator = AvatarVideo(AvatarImage("r1"))
    pieces: list[rtc.AudioFrame | AudioSegmentEnd] = [speech(1000), speech(9000), AudioSegmentEnd()]
    for piece in pieces:
        await generator.push_audio(piece)
    frames = aiter(generator)
    first, second, third, fourth, end = [await anext(frames) for _ in range(5)]
    assert isinstance(first, rtc.VideoFrame) and isinstance(third, rtc.VideoFrame)
    assert bytes(first.data) != bytes(third.data)
    assert [second, fourth, end] == pieces


async def test_video_continues_during_silence() -> None:
    frames = aiter(AvatarVideo(AvatarImage("r1")))
    async with asyncio.timeout(5):
        assert all([isinstance(await anext(frames), rtc.VideoFrame) for _ in range(3)])


async def test_interruption_discards_unplayed_speech() -> None:
    generator = AvatarVideo(AvatarImage("r1"))
    for _ in range(3):
        await generator.push_audio(speech(1000))
    generator.clear_buffer()
    frames = aiter(generator)
    async with asyncio.timeout(5):
        assert all([isinstance(await anext(frames), rtc.VideoFrame) for _ in range(2)])
