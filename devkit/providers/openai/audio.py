"""Requests and answers of `/v1/audio/speech` and `/v1/audio/transcriptions`. Pure functions."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devkit.providers.openai.chat import event
from devkit.providers.openai.encoding import ENCODERS
from devkit.providers.openai.errors import reject
from devkit.providers.openai.models import require_model
from devkit.providers.recognition import Transcript
from devkit.providers.synthesis import VOICES

MAX_INPUT_CHARACTERS = 4096
MAX_UPLOAD_BYTES = 25 * 1024 * 1024

_TRANSCRIPT_FORMATS = ("json", "verbose_json", "text")
_LANGUAGE_NAMES = {"ar": "arabic", "en": "english"}


@dataclass(frozen=True)
class SpeechRequest:
    """A request for speech; its audio is sent as bytes or in server-sent events."""

    text: str
    voice: str
    speed: float
    format: str
    as_events: bool


def parse_speech(document: object) -> SpeechRequest:
    """Parse a decoded JSON body; reject an invalid one with 400 or 404 as OpenAI does."""
    if not isinstance(document, dict):
        reject("We could not parse the JSON body of your request.")
    model = require_model("speech", document.get("model"))
    text = document.get("input")
    if not isinstance(text, str) or not text.strip():
        reject("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    if len(text) > MAX_INPUT_CHARACTERS:
        reject(f"'input' is longer than {MAX_INPUT_CHARACTERS} characters.", param="input", code="string_too_long")
    voice = document.get("voice")
    if voice not in VOICES:
        reject(f"Invalid value: {voice!r}. Supported values are: {', '.join(VOICES)}.", param="voice")
    speed = document.get("speed", 1.0)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0.25 <= speed <= 4.0:
        reject("'speed' must be a number from 0.25 to 4.0.", param="speed")
    encoding = document.get("response_format", "mp3")
    if encoding not in ENCODERS:
        reject(f"'response_format' must be one of {', '.join(ENCODERS)} here.", param="response_format")
    as_events = document.get("stream_format") == "sse"
    if as_events and model in ("tts-1", "tts-1-hd"):
        reject("'sse' is not supported for tts-1 or tts-1-hd.", param="stream_format")
    return SpeechRequest(text, str(voice), float(speed), str(encoding), as_events)


def speech_delta(audio: bytes) -> bytes:
    """Return the server-sent event that carries a piece of audio."""
    return event({"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode()})


def speech_done(text: str) -> bytes:
    """Return the server-sent event that ends the speech."""
    tokens = max(1, len(text) // 4)
    usage = {"input_tokens": tokens, "output_tokens": tokens * 10, "total_tokens": tokens * 11}
    return event({"type": "speech.audio.done", "usage": usage})


@dataclass(frozen=True)
class TranscriptionRequest:
    """A request for a transcript: the recording, its language, the text before it, and the answer's format."""

    content: bytes
    language: str | None
    prompt: str | None
    format: str


def parse_transcription(
    fields: Mapping[str, str], content: bytes | None, languages: frozenset[str]
) -> TranscriptionRequest:
    """Parse a multipart form; reject an invalid one with 400 or 404 as OpenAI does."""
    if content is None:
        reject("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    model = require_model("transcriptions", fields.get("model"))
    language = fields.get("language", "").split("-")[0].lower() or None
    if language is not None and language not in languages:
        reject(f"Invalid language '{language}'. Language parameter must be specified in ISO-639-1 format.")
    form = fields.get("response_format", "json")
    if form not in _TRANSCRIPT_FORMATS:
        reject(f"'response_format' must be one of {', '.join(_TRANSCRIPT_FORMATS)} here.", param="response_format")
    if form == "verbose_json" and model != "whisper-1":
        reject(f"response_format 'verbose_json' is not compatible with model '{model}'.", param="response_format")
    return TranscriptionRequest(content, language, fields.get("prompt") or None, form)


def transcription(said: Transcript, form: str) -> dict[str, Any]:
    """Return the JSON answer; with `verbose_json` the language by its English name, as OpenAI gives it."""
    billed = {"type": "duration", "seconds": round(said.duration_seconds)}
    if form == "json":
        return {"text": said.text, "usage": billed}
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": said.duration_seconds, "text": said.text, "tokens": []}
    quality = {"temperature": 0.0, "avg_logprob": 0.0, "compression_ratio": 1.0, "no_speech_prob": 0.0}
    return {
        "task": "transcribe",
        "language": _LANGUAGE_NAMES.get(said.language, said.language),
        "duration": said.duration_seconds,
        "text": said.text,
        "segments": [segment | quality] if said.text else [],
        "usage": billed,
    }
