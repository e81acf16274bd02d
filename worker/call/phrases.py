"""Phrases synthesised before calls need them: the greeting and the prepared sentences, the same in every call.

The worker's main process requests each phrase once, after start, and stores the samples in a file. A call process reads
the file, or requests the phrase itself when the file is missing. So the first word needs no request, and the prepared
sentences are available when the provider has failed.
"""

import asyncio
import hashlib
import logging
import os
import tempfile
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, NamedTuple

from livekit import rtc

from agentspec.languages import primary
from agentspec.wire import ProviderStage, WorkerConfig
from worker.call import budget, sentences, voice
from worker.call.voice import Stages
from worker.provider_reports import StageOutcome, failed, succeeded

logger = logging.getLogger(__name__)

_FRAME_SECONDS: Final = 0.05
_SAMPLE_BYTES: Final = 2


class _Phrase(NamedTuple):
    text: str
    language: str


async def prepare(config: WorkerConfig, stages: Stages, report: Callable[[StageOutcome], None]) -> None:
    """Store the audio of the greeting and the prepared sentences in files, the most important first.

    Retries the phrases that failed a few times, then gives up with a log line for each. `report` receives the outcome
    of each request to tts. A realtime model is reported by its trial (`worker.server.trials`).
    """
    missing = _phrases(config)
    for pause in (*budget.PREPARE_RETRY_SECONDS, None):
        missing = [phrase for phrase in missing if not await _prepare(phrase, stages, report)]
        if not missing or pause is None:
            return
        await asyncio.sleep(pause)


async def prepare_first(config: WorkerConfig, stages: Stages, report: Callable[[StageOutcome], None]) -> None:
    """Store the audio of the most important phrase, without a retry. `report` receives the outcome."""
    await _prepare(_phrases(config)[0], stages, report)


def _phrases(config: WorkerConfig) -> list[_Phrase]:
    """Return the greeting and the prepared sentences, the most important first; other languages follow."""
    spoken = [config, *(config.in_language(language) for language in config.languages)]
    phrases = [
        _Phrase(text, primary(one.language))
        for one in spoken
        for text in (one.greeting, *sentences.for_language(one.language).by_importance())
        if text
    ]
    return list(dict.fromkeys(phrases))


async def _prepare(phrase: _Phrase, stages: Stages, report: Callable[[StageOutcome], None]) -> bool:
    """Store the audio of one phrase; returns whether that succeeded."""
    try:
        audio = await _synthesise(phrase, stages)
    except Exception as error:
        if not stages.is_realtime:
            report(failed(ProviderStage.TTS, error))
        logger.warning("preparing a phrase failed", extra=_error_fields(error))
        return False
    if not stages.is_realtime:
        report(succeeded(ProviderStage.TTS))
    try:
        await asyncio.to_thread(_write, _path(phrase, stages), audio)
    except OSError as error:
        logger.warning("preparing a phrase failed", extra=_error_fields(error))
        return False
    logger.info("phrase prepared", extra={"seconds": round(audio.duration, 2)})
    return True


async def audio(text: str, language: str, stages: Stages) -> rtc.AudioFrame | None:
    """Return the samples of a text in a language, from its file or the provider.

    None, with a log line, when both fail.
    """
    phrase = _Phrase(text, primary(language))
    stored = await asyncio.to_thread(_read, _path(phrase, stages))
    if stored is not None:
        return stored
    try:
        return await _synthesise(phrase, stages)
    except Exception as error:
        logger.warning("synthesising a phrase failed", extra=_error_fields(error))
        return None


async def prepared(config: WorkerConfig, stages: Stages) -> rtc.AudioFrame | None:
    """Return the samples of the first phrase that has a file; None when none has."""
    for phrase in _phrases(config):
        if (stored := await asyncio.to_thread(_read, _path(phrase, stages))) is not None:
            return stored
    return None


async def _synthesise(phrase: _Phrase, stages: Stages) -> rtc.AudioFrame:
    async with asyncio.timeout(budget.SYNTHESIS_SECONDS):
        async with stages.make_tts(phrase.language) as stage:
            return await stage.synthesize(phrase.text, conn_options=voice.TTS_CONNECTION).collect()


def _error_fields(error: Exception) -> dict[str, object]:
    """Return the log fields of an error, without the provider's answer, which may quote the text."""
    return {"error": type(error).__name__, "status": getattr(error, "status_code", None)}


async def frames(whole: rtc.AudioFrame) -> AsyncIterator[rtc.AudioFrame]:
    """Yield the samples in frames of 50 ms, and let the event loop run between them."""
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


def _path(phrase: _Phrase, stages: Stages) -> Path:
    identity = "\0".join((stages.speech_identity, phrase.language, phrase.text))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
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
    """Write the file atomically, because call processes may read it at any time."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(audio.to_wav_bytes())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
