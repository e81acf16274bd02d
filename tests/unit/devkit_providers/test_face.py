"""The avatar's picture and how it follows the speech."""

import asyncio

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd

from devkit.providers.tavus.avatar import FRAME_MILLISECONDS, SAMPLE_RATE, FaceGenerator
from devkit.providers.tavus.face import HEIGHT, WIDTH, Face, loudness

PIECE = SAMPLE_RATE * FRAME_MILLISECONDS // 1000


def speech(amplitude: int) -> rtc.AudioFrame:
    samples = np.full(PIECE, amplitude, dtype=np.int16)
    return rtc.AudioFrame(samples.tobytes(), SAMPLE_RATE, 1, PIECE)


def test_loudness_goes_from_silence_to_one() -> None:
    assert loudness(np.zeros(0, dtype=np.int16)) == 0.0
    assert loudness(np.zeros(100, dtype=np.int16)) == 0.0
    assert 0.3 < loudness(np.full(100, 2500, dtype=np.int16)) < 0.7
    assert loudness(np.full(100, -32768, dtype=np.int16)) == 1.0


def test_a_picture_is_rgba_of_the_declared_size() -> None:
    assert len(Face("r1").draw(0.0, 0.0)) == WIDTH * HEIGHT * 4


def test_the_mouth_opens_with_the_speech() -> None:
    face = Face("r1")
    assert face.draw(1.0, 0.0) != face.draw(1.0, 1.0)


def test_the_picture_moves_in_silence() -> None:
    face = Face("r1")
    assert len({face.draw(number * FRAME_MILLISECONDS / 1000, 0.0) for number in range(25)}) == 25


def test_faces_can_be_told_apart() -> None:
    assert Face("r1").draw(0.0, 0.0) != Face("r2").draw(0.0, 0.0)


async def test_each_piece_of_speech_comes_with_a_picture_and_in_order() -> None:
    generator = FaceGenerator(Face("r1"))
    said: list[rtc.AudioFrame | AudioSegmentEnd] = [speech(1000), speech(9000), AudioSegmentEnd()]
    for piece in said:
        await generator.push_audio(piece)
    frames = aiter(generator)
    first, second, third, fourth, end = [await anext(frames) for _ in range(5)]
    assert isinstance(first, rtc.VideoFrame) and isinstance(third, rtc.VideoFrame)
    assert bytes(first.data) != bytes(third.data)
    assert [second, fourth, end] == said


async def test_in_silence_pictures_go_on_without_speech() -> None:
    frames = aiter(FaceGenerator(Face("r1")))
    async with asyncio.timeout(5):
        assert all([isinstance(await anext(frames), rtc.VideoFrame) for _ in range(3)])


async def test_an_interruption_drops_what_has_not_been_said() -> None:
    generator = FaceGenerator(Face("r1"))
    for _ in range(3):
        await generator.push_audio(speech(1000))
    generator.clear_buffer()
    frames = aiter(generator)
    async with asyncio.timeout(5):
        assert all([isinstance(await anext(frames), rtc.VideoFrame) for _ in range(2)])
