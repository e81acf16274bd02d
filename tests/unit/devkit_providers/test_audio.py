"""Requests for speech and transcripts, and the formats of audio."""

import io
import json
import struct

import av
import numpy as np
import pytest
from aiohttp import web

from devkit.providers.openai import audio
from devkit.providers.openai.encoding import ENCODERS
from devkit.providers.recognition import Transcript
from devkit.providers.synthesis import SAMPLE_RATE, resample, sentences

SECOND = (8000 * np.sin(np.arange(SAMPLE_RATE) * 2 * np.pi * 440 / SAMPLE_RATE)).astype(np.int16)


def encoded(form: str) -> bytes:
    encoder = ENCODERS[form]()
    pieces = [encoder.encode(SECOND[start : start + 2400]) for start in range(0, len(SECOND), 2400)]
    return b"".join([*pieces, encoder.finish()])


def test_pcm_is_the_samples() -> None:
    assert encoded("pcm") == SECOND.tobytes()


def test_wav_has_one_header() -> None:
    wav = encoded("wav")
    assert wav[:4] == b"RIFF"
    assert struct.unpack("<I", wav[24:28]) == (SAMPLE_RATE,)
    assert wav[44:] == SECOND.tobytes()


def test_mp3_is_as_long_as_the_samples() -> None:
    with av.open(io.BytesIO(encoded("mp3")), "r") as container:
        frames = list(container.decode(audio=0))
    assert frames[0].sample_rate == SAMPLE_RATE
    assert sum(frame.samples for frame in frames) / SAMPLE_RATE == pytest.approx(1.0, abs=0.1)


def test_mp3_frames_are_available_before_the_end() -> None:
    encoder = ENCODERS["mp3"]()
    assert sum(len(encoder.encode(SECOND)) for _ in range(3)) > 1000
    encoder.finish()


def test_resampling_keeps_the_length_in_seconds() -> None:
    assert len(resample(SECOND, SAMPLE_RATE, 16_000)) == pytest.approx(16_000, abs=50)
    assert resample(SECOND, SAMPLE_RATE, SAMPLE_RATE) is SECOND


def test_text_is_divided_into_sentences() -> None:
    assert list(sentences("Hello. How are you?  كيف الحال؟ نعم\n\n")) == ["Hello.", "How are you?", "كيف الحال؟", "نعم"]


def speech(**changes: object) -> audio.SpeechRequest:
    return audio.parse_speech({"model": "tts-1", "input": "Hello.", "voice": "onyx"} | changes)


def test_speech_defaults_are_openais() -> None:
    assert speech() == audio.SpeechRequest("Hello.", "onyx", 1.0, "mp3", as_events=False)


def test_only_some_models_stream_speech_as_events() -> None:
    assert speech(model="gpt-4o-mini-tts", stream_format="sse").as_events
    with pytest.raises(web.HTTPBadRequest):
        speech(stream_format="sse")


@pytest.mark.parametrize(
    "changes",
    [
        {"input": ""},
        {"input": "x" * 4097},
        {"voice": "unknown"},
        {"voice": None},
        {"speed": 9},
        {"speed": True},
        {"speed": "fast"},
        {"response_format": "opus"},
        {"model": "whisper-1"},
    ],
)
def test_invalid_speech_request_is_rejected(changes: dict[str, object]) -> None:
    with pytest.raises(web.HTTPBadRequest) as refused:
        speech(**changes)
    assert json.loads(refused.value.text or "")["error"]["type"] == "invalid_request_error"


LANGUAGES = frozenset({"ar", "en"})


def test_transcription_fields_are_parsed() -> None:
    fields = {"model": "whisper-1", "language": "ar-SY", "response_format": "verbose_json", "prompt": "Ornina"}
    wanted = audio.parse_transcription(fields, b"RIFF", LANGUAGES)
    assert wanted == audio.TranscriptionRequest(b"RIFF", "ar", "Ornina", "verbose_json")


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "xx"},
        {"response_format": "srt"},
        {"model": "gpt-4o-transcribe", "response_format": "verbose_json"},
        {"model": "tts-1"},
    ],
)
def test_invalid_transcription_request_is_rejected(fields: dict[str, str]) -> None:
    with pytest.raises(web.HTTPBadRequest):
        audio.parse_transcription({"model": "whisper-1"} | fields, b"RIFF", LANGUAGES)


def test_transcription_requires_a_file() -> None:
    with pytest.raises(web.HTTPBadRequest):
        audio.parse_transcription({"model": "whisper-1"}, None, LANGUAGES)


def test_verbose_answer_names_the_language_in_english() -> None:
    said = Transcript("أهلا", "ar", 1.5)
    verbose = audio.transcription(said, "verbose_json")
    assert (verbose["language"], verbose["duration"], verbose["text"]) == ("arabic", 1.5, "أهلا")
    assert audio.transcription(said, "json") == {"text": "أهلا", "usage": {"type": "duration", "seconds": 2}}
