"""The greeting's audio, made before the caller comes: it is the same text in every call.

The worker's main process asks the provider once, after start, and keeps the samples in a file; a call process reads
the file, or asks the provider itself while it waits for its caller.
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

from agentspec.workerconfig import WorkerConfig
from worker import voice

logger = logging.getLogger(__name__)

_FRAME_SECONDS: Final = 0.05
_SYNTHESIS_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 60.0)
_SAMPLE_BYTES: Final = 2


async def prepare(config: WorkerConfig, client: AsyncOpenAI) -> None:
    """Keep the greeting's audio in the file; tries a few times, and only logs when it cannot."""
    if not config.greeting:
        return
    for pause in (*_RETRY_SECONDS, None):
        try:
            audio = await synthesise(config, client)
            await asyncio.to_thread(_write, _path(config), audio)
        except Exception as error:
            logger.warning("greeting not prepared", extra={"error": type(error).__name__, "reason": str(error)})
        else:
            logger.info("greeting prepared", extra={"seconds": round(audio.duration, 2)})
            return
        if pause is not None:
            await asyncio.sleep(pause)


async def audio(config: WorkerConfig, client: AsyncOpenAI) -> rtc.AudioFrame | None:
    """The greeting's samples, from the file or from the provider; None, and a log line, when neither has them."""
    kept = await asyncio.to_thread(_read, _path(config))
    if kept is not None:
        return kept
    try:
        return await synthesise(config, client)
    except Exception as error:
        logger.warning("greeting's audio not made", extra={"error": type(error).__name__})
        return None


async def synthesise(config: WorkerConfig, client: AsyncOpenAI) -> rtc.AudioFrame:
    """The greeting, spoken by the provider."""
    async with asyncio.timeout(_SYNTHESIS_SECONDS):
        speaker = voice.make_tts(config.voice, client)
        return await speaker.synthesize(config.greeting, conn_options=voice.SPEAKING).collect()


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


def _path(config: WorkerConfig) -> Path:
    spoken = "\0".join((config.voice.openai.base_url, config.voice.tts.model, config.voice.tts.voice, config.greeting))
    digest = hashlib.sha256(spoken.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"avatar-agent-greeting-{os.getuid()}-{digest}.wav"


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
