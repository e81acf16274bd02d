"""The product's speech detection: the same events as the installed SDK's, for the same audio."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import AgentSession, inference, vad
from livekit.agents.voice.room_io import RoomIO, RoomOptions

from tests.unit.worker.conversation import Samples, speech
from worker.call import speech_detection
from worker.call.speech_detection import ROOM_AUDIO, SAMPLE_RATE, DetectionStream, SpeechDetector

FLUSH = "flush"
Input = Samples | str


def pause(seconds: float) -> Samples:
    """Return silence with a little noise."""
    noise = np.random.default_rng(7).normal(0, 20, int(seconds * SAMPLE_RATE))
    samples: Samples = noise.astype(np.int16)
    return samples


def frame(samples: Samples, rate: int = SAMPLE_RATE, channels: int = 1) -> rtc.AudioFrame:
    return rtc.AudioFrame(samples.tobytes(), rate, channels, samples.size // channels)


async def events_of(detector: vad.VAD, parts: Sequence[Input], frame_samples: int = 800) -> list[vad.VADEvent]:
    """Return all events of some audio, pushed in frames of 50 ms."""
    stream = detector.stream()
    for part in parts:
        if isinstance(part, str):
            stream.flush()
            continue
        for start in range(0, part.size, frame_samples):
            stream.push_frame(frame(part[start : start + frame_samples]))
    stream.end_input()
    found = [event async for event in stream]
    await stream.aclose()
    return found


def facts(event: vad.VADEvent) -> tuple[object, ...]:
    """Return what the session and the transcription read of an event."""
    has_audio = event.type is not vad.VADEventType.INFERENCE_DONE
    return (
        event.type,
        event.samples_index,
        event.speaking,
        tuple(bytes(part.data) for part in event.frames if has_audio),
        tuple(
            round(seconds, 6)
            for seconds in (
                event.timestamp,
                event.speech_duration,
                event.silence_duration,
                event.probability,
                event.raw_accumulated_silence,
                event.raw_accumulated_speech,
            )
        ),
    )


@pytest.mark.parametrize(
    "parts",
    [
        [pause(1.0)],
        [pause(1.0), speech(1.5), pause(1.0)],
        [speech(0.8), pause(0.12), speech(0.8), pause(0.4), speech(0.06), pause(0.3), speech(2.0), pause(0.5)],
        [pause(0.3), speech(1.0)],
        [pause(0.3), speech(1.0), FLUSH, pause(0.7), speech(1.0), pause(0.5)],
        [pause(0.3), (speech(1.0) // 40).astype(np.int16), pause(0.5)],
    ],
    ids=["silence", "one sentence", "pauses", "no end", "flush", "quiet"],
)
async def test_events_equal_those_of_the_sdk(parts: Sequence[Input]) -> None:
    expected = [facts(event) for event in await events_of(inference.VAD(), parts)]
    assert [facts(event) for event in await events_of(SpeechDetector(), parts)] == expected


@pytest.mark.parametrize("frame_samples", [160, 512, 1000, 8000])
async def test_size_of_frames_does_not_matter(frame_samples: int) -> None:
    parts = [pause(0.5), speech(1.0), pause(0.5)]
    expected = [facts(event) for event in await events_of(SpeechDetector(), parts)]
    assert expected
    assert [facts(event) for event in await events_of(SpeechDetector(), parts, frame_samples)] == expected


async def test_long_speech_is_cut_where_the_sdk_cuts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of 1 s instead of a minute."""
    monkeypatch.setattr(speech_detection, "_MAX_BYTES", 2 * SAMPLE_RATE + speech_detection._PADDING_BYTES)
    parts = [pause(1.0), speech(3.0), pause(0.5), speech(0.5), pause(0.5)]
    expected = [facts(event) for event in await events_of(inference.VAD(max_buffered_speech=1.0), parts)]
    assert [facts(event) for event in await events_of(SpeechDetector(), parts)] == expected


async def test_streams_of_a_detector_are_independent() -> None:
    """The transcription gets silence while the session hears the caller; either stream may be created anew."""
    detector = SpeechDetector()
    session, transcription = detector.stream(), detector.stream()
    for start in range(0, 2 * SAMPLE_RATE, 800):
        heard = np.concatenate([speech(1.5), pause(0.5)])[start : start + 800]
        session.push_frame(frame(heard))
        transcription.push_frame(frame(np.zeros_like(heard)))
    renewed = detector.stream()
    await transcription.aclose()
    for stream in (session, renewed):
        stream.end_input()
    window = vad.VADEventType.INFERENCE_DONE
    kinds = [event.type async for event in session if event.type is not window]
    assert kinds == [vad.VADEventType.START_OF_SPEECH, vad.VADEventType.END_OF_SPEECH]
    assert [event async for event in renewed] == []


async def test_reader_gets_events_as_they_come() -> None:
    stream = DetectionStream()
    reading = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    assert not reading.done()
    stream.push_frame(frame(pause(0.05)))
    assert (await reading).samples_index == 512


async def test_closed_stream_ends_its_reader_and_takes_no_audio() -> None:
    stream = DetectionStream()
    reading = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    await stream.aclose()
    assert await reading is None
    await stream.aclose()
    with pytest.raises(RuntimeError):
        stream.push_frame(frame(pause(0.05)))
    with pytest.raises(RuntimeError):
        stream.flush()


async def test_closed_stream_drops_events_that_were_not_read() -> None:
    stream = DetectionStream()
    stream.push_frame(frame(pause(0.5)))
    await stream.aclose()
    assert [event async for event in stream] == []


@pytest.mark.parametrize(("rate", "channels"), [(24_000, 1), (SAMPLE_RATE, 2)])
async def test_other_formats_of_audio_are_refused(rate: int, channels: int) -> None:
    with pytest.raises(ValueError, match="need 16000, 1"):
        DetectionStream().push_frame(frame(pause(0.1), rate, channels))


async def test_room_audio_has_the_format_of_the_detector() -> None:
    options = RoomOptions(audio_input=ROOM_AUDIO, audio_output=False, text_input=False, text_output=False)
    room_io: Any = RoomIO(AgentSession[None](), rtc.Room(), options=options)
    await room_io.start()
    try:
        heard = room_io.audio_input
        assert (heard._sample_rate, heard._num_channels) == (SAMPLE_RATE, 1)
        assert heard._apm is not None, "quiet callers need automatic gain control"
    finally:
        await room_io.aclose()


def public_methods(cls: type) -> dict[str, Callable[..., object]]:
    return {
        name: method
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") or name in ("__aiter__", "__anext__")
    }


def test_stream_has_the_methods_of_the_sdk() -> None:
    expected, offered = public_methods(vad.VADStream), public_methods(DetectionStream)
    assert offered.keys() == expected.keys()
    for name, method in expected.items():
        assert inspect.signature(offered[name]).parameters.keys() == inspect.signature(method).parameters.keys(), name


def test_detector_has_the_defaults_of_the_sdk() -> None:
    theirs, ours = inference.VAD(), SpeechDetector()
    assert (ours.model, ours.provider) == (theirs.model, theirs.provider)
    assert ours.min_silence_duration == theirs.min_silence_duration
    assert ours.capabilities == theirs.capabilities
