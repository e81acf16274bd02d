"""Speech synthesis with espeak-ng: Arabic and English, one espeak voice for each of OpenAI's voices."""
# ruff: noqa: RUF001 - Arabic letters look like Latin ones to a linter.

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from devkit.providers.arabic import as_spoken
from devkit.providers.text import language_of

SAMPLE_RATE = 24_000
"""Sample rate in Hz, of 16-bit signed mono samples: OpenAI's format `pcm`."""

Samples = NDArray[np.int16]

_ESPEAK = "espeak-ng"
_ESPEAK_TIMEOUT_SECONDS = 30.0
_WAV_HEADER_BYTES = 44
_ESPEAK_LANGUAGE = {"ar": "ar", "en": "en-us"}
# Arabic is slower and has gaps between words (in units of 10 ms), so that the recogniser separates the words.
_WORDS_PER_MINUTE = {"ar": 140, "en": 165}
_WORD_GAP = {"ar": 4, "en": 0}
_SENTENCE_END = re.compile(r"(?<=[.!?؟۔\n])\s+")


class SynthesisError(RuntimeError):
    """espeak-ng is not installed or could not speak the text."""


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice: a variant of the language's voice ("" is the plain one) and a pitch from 0 to 99."""

    variant: str
    pitch: int


# Whisper base recognises alloy and onyx best in Arabic.
VOICES: dict[str, Voice] = {
    "alloy": Voice("", 50),
    "ash": Voice("m1", 45),
    "ballad": Voice("m2", 50),
    "cedar": Voice("", 35),
    "coral": Voice("f2", 50),
    "echo": Voice("m3", 50),
    "fable": Voice("m7", 60),
    "marin": Voice("", 55),
    "nova": Voice("f2", 45),
    "onyx": Voice("", 40),
    "sage": Voice("f4", 45),
    "shimmer": Voice("f5", 60),
    "verse": Voice("m4", 55),
}


def speak(text: str, voice: str = "onyx", speed: float = 1.0) -> Samples:
    """Return `text` spoken aloud: 24 kHz mono samples.

    `voice` is one of `VOICES`; `speed` multiplies the usual pace. Raises `SynthesisError`, and `KeyError` for a voice
    that does not exist.
    """
    language = language_of(text)
    chosen = VOICES[voice]
    name = _ESPEAK_LANGUAGE[language] + (f"+{chosen.variant}" if chosen.variant else "")
    pace, gap = round(_WORDS_PER_MINUTE[language] * speed), _WORD_GAP[language]
    sound = {"-v": name, "-p": str(chosen.pitch), "-s": str(pace), "-g": str(gap)}
    command = [_ESPEAK, "--stdout", "--stdin", "-b", "1", *(part for option in sound.items() for part in option)]
    try:
        done = subprocess.run(
            command, input=as_spoken(text).encode(), capture_output=True, timeout=_ESPEAK_TIMEOUT_SECONDS, check=True
        )
    except FileNotFoundError as error:
        raise SynthesisError(f"{_ESPEAK} is not installed: apt-get install {_ESPEAK}") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SynthesisError(f"{_ESPEAK} failed: {error}") from error
    return _samples_of_wav(done.stdout)


def sentences(text: str) -> Iterator[str]:
    """Yield the non-empty sentences of `text`, so that the first can be played before the last is synthesised."""
    for part in _SENTENCE_END.split(text):
        if part.strip():
            yield part.strip()


def _samples_of_wav(wav: bytes) -> Samples:
    # espeak-ng writes the header to a pipe before it knows the length, so the sizes in it are wrong.
    rate = int.from_bytes(wav[24:28], "little")
    return resample(np.frombuffer(wav[_WAV_HEADER_BYTES:], dtype="<i2"), rate, SAMPLE_RATE)


def resample(samples: Samples, rate: int, target_rate: int) -> Samples:
    """Return mono `samples` of `rate` Hz as `target_rate` Hz."""
    if rate == target_rate or samples.size == 0:
        return samples
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = rate
    frame.time_base = Fraction(1, rate)
    resampler = av.AudioResampler(format="s16", layout="mono", rate=target_rate)
    parts = [part.to_ndarray().reshape(-1) for part in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts).astype(np.int16, copy=False) if parts else np.zeros(0, dtype=np.int16)
