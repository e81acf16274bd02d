"""Sentences known beforehand, spoken beforehand: the greeting and the apology are the same in every call.

The worker's main process asks the provider for each once, after start, and keeps the samples in files. A call process
reads the file; where it is missing it asks the provider itself. So the first word needs no request, and the apology
can be heard when the provider is what failed.
"""

import asyncio
import hashlib
import logging
import os
import tempfile
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from livekit import rtc
from openai import AsyncOpenAI

from agentspec import VoiceSpec
from agentspec.wire import WorkerConfig
from worker.call import prompt, voice

logger = logging.getLogger(__name__)

_FRAME_SECONDS: Final = 0.05
_SYNTHESIS_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 60.0)
_SAMPLE_BYTES: Final = 2


async def prepare(config: WorkerConfig, client: AsyncOpenAI) -> None:
    """Keep the greeting's and the apology's audio in files; tries a few times, and only logs when it cannot."""
    for text in (config.greeting, prompt.apology(config.language)):
        if text:
            await _prepare(text, config.voice, client)


async def _prepare(text: str, declared: VoiceSpec, client: AsyncOpenAI) -> None:
    for pause in (*_RETRY_SECONDS, None):
        try:
            audio = await _synthesise(text, declared, client)
            await asyncio.to_thread(_write, _path(text, declared), audio)
        except Exception as error:
            logger.warning("phrase not prepared", extra=_reason(error))
        else:
            logger.info("phrase prepared", extra={"seconds": round(audio.duration, 2)})
            return
        if pause is not None:
            await asyncio.sleep(pause)


async def audio(text: str, declared: VoiceSpec, client: AsyncOpenAI) -> rtc.AudioFrame | None:
    """The text's samples, from the file or from the provider; None, and a log line, when neither has them."""
    kept = await asyncio.to_thread(_read, _path(text, declared))
    if kept is not None:
        return kept
    try:
        return await _synthesise(text, declared, client)
    except Exception as error:
        logger.warning("phrase not spoken", extra=_reason(error))
        return None


async def _synthesise(text: str, declared: VoiceSpec, client: AsyncOpenAI) -> rtc.AudioFrame:
    async with asyncio.timeout(_SYNTHESIS_SECONDS):
        return await voice.make_tts(declared, client).synthesize(text, conn_options=voice.TTS_CONNECTION).collect()


def _reason(error: Exception) -> dict[str, object]:
    """What failed, without the provider's answer: it may quote the text."""
    return {"error": type(error).__name__, "status": getattr(error, "status_code", None)}


async def frames(whole: rtc.AudioFrame) -> AsyncIterator[rtc.AudioFrame]:
    """The samples in pieces that an output takes one by one, with air for the event loop between them."""
    step = int(whole.sample_rate * _FRAME_SECONDS) * whole.num_channels
    samples = whole.data
    for start in range(0, len(samples), step):
        piece = samples[start : start + step]
        yield rtc.AudioFrame(
            data=bytes(piece.cast("b")),
            sample_rate=whole.sample_rate,
            num_channels=whole.num_channels,
            samples_per_channel=len(piece) // whole.num_channels,
        )
        await asyncio.sleep(0)


def _path(text: str, declared: VoiceSpec) -> Path:
    spoken = "\0".join((declared.openai.base_url, declared.tts.model, declared.tts.voice, text))
    digest = hashlib.sha256(spoken.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"avatar-agent-phrase-{os.getuid()}-{digest}.wav"


def _read(path: Path) -> rtc.AudioFrame | None:
    try:
        with wave.open(str(path), "rb") as file:
            data = file.readframes(file.getnframes())
            rate, channels = file.getframerate(), file.getnchannels()
    except (OSError, EOFError, wave.Error):
        return None
    if not data:
        return None
    return rtc.AudioFrame(
        data=data, sample_rate=rate, num_channels=channels, samples_per_channel=len(data) // _SAMPLE_BYTES // channels
    )


def _write(path: Path, audio: rtc.AudioFrame) -> None:
    """Whole or not at all: call processes read it at any time."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(audio.to_wav_bytes())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
