"""Phrases synthesised in advance: stored in files, played in frames."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from livekit import rtc

from agentspec.wire import ProviderStage, WorkerConfig
from tests.unit.worker.builders import make_config
from tests.unit.worker.fakes import silence
from worker.call import budget, phrases, sentences
from worker.call.voice import Stages
from worker.provider_reports import StageOutcome


class FakeProvider:
    """Records its requests; the first `failures` of them fail, and all for the text `refused`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int = 0, refused: str = "") -> None:
        self.requests: list[str] = []
        self.languages: list[str] = []
        self._failures = failures
        self._refused = refused
        monkeypatch.setattr(phrases, "_synthesise", self._synthesise)

    async def _synthesise(self, phrase: tuple[str, str], *_: object) -> rtc.AudioFrame:
        text, language = phrase
        self.languages.append(language)
        self.requests.append(text)
        if len(self.requests) <= self._failures or text == self._refused:
            raise ConnectionError("no")
        return silence(0.12)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _damage(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(b"RIFF")


def stages(config: WorkerConfig) -> Stages:
    """Return the stages of an agent without a provider."""
    return Stages(config.voice, cast(Any, None))


def IGNORE(_: object) -> None:
    """Ignore an outcome."""


PREPARED = 7
"""The greeting and six sentences."""


async def test_prepared_phrase_needs_no_provider(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider(monkeypatch)
    await phrases.prepare(config, stages(config), IGNORE)
    assert provider.requests == [config.greeting, *sentences.for_language("ar").by_importance()]
    audio = await phrases.audio(config.greeting, "ar", stages(config))
    assert audio is not None and audio.duration == pytest.approx(0.12)
    assert len(provider.requests) == PREPARED


async def test_missing_phrase_is_requested(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider(monkeypatch)
    assert await phrases.audio("hello", "ar", stages(config)) is not None
    assert provider.requests == ["hello"]


async def test_missing_phrase_without_provider_is_none(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeProvider(monkeypatch, failures=1)
    assert await phrases.audio("hello", "ar", stages(config)) is None


async def test_another_voice_needs_another_request(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider(monkeypatch)
    await phrases.prepare(config, stages(config), IGNORE)
    voice = config.voice.model_copy(update={"tts": config.voice.tts.model_copy(update={"voice": "nova"})})
    await phrases.audio(config.greeting, "ar", stages(config.model_copy(update={"voice": voice})))
    assert len(provider.requests) == PREPARED + 1


async def test_each_language_has_audio_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(language="ar-SY", languages=["en-GB"], greeting="Ornina", greetings={"en-GB": "Ornina"})
    provider = FakeProvider(monkeypatch)
    await phrases.prepare(config, stages(config), IGNORE)
    assert provider.languages == ["ar"] * PREPARED + ["en"] * PREPARED
    for language in ("ar-SY", "en-GB"):
        assert await phrases.audio("Ornina", language, stages(config)) is not None
    assert len(provider.requests) == 2 * PREPARED, "both are read from files"
    assert await phrases.audio("Ornina", "de", stages(config)) is not None
    assert provider.languages[-1] == "de"


async def test_preparing_retries(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "PREPARE_RETRY_SECONDS", (0.0, 0.0))
    provider = FakeProvider(monkeypatch, failures=PREPARED + 1)
    await phrases.prepare(config.model_copy(update={"greeting": "hi"}), stages(config), IGNORE)
    assert provider.requests.count("hi") == 3
    assert all(provider.requests.count(text) == 2 for text in sentences.for_language("ar").by_importance())


async def test_each_request_reports_its_outcome(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "PREPARE_RETRY_SECONDS", (0.0,))
    FakeProvider(monkeypatch, failures=1)
    found: list[StageOutcome] = []
    await phrases.prepare(config, stages(config), found.append)
    errors = [outcome.failure.error if outcome.failure else None for outcome in found]
    assert errors == ["ConnectionError"] + [None] * PREPARED
    assert {outcome.stage for outcome in found} == {ProviderStage.TTS}


async def test_first_prepared_phrase_is_found(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeProvider(monkeypatch, refused=config.greeting)
    monkeypatch.setattr(budget, "PREPARE_RETRY_SECONDS", ())
    assert await phrases.prepared(config, stages(config)) is None
    await phrases.prepare(config, stages(config), IGNORE)
    assert await phrases.prepared(config, stages(config)) is not None


async def test_refused_greeting_does_not_delay_the_sentences(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "PREPARE_RETRY_SECONDS", (0.0, 0.0))
    provider = FakeProvider(monkeypatch, refused="hi")
    await phrases.prepare(config.model_copy(update={"greeting": "hi"}), stages(config), IGNORE)
    assert provider.requests[1:PREPARED] == list(sentences.for_language("ar").by_importance())
    assert provider.requests[PREPARED:] == ["hi", "hi"]


async def test_damaged_file_is_not_played(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    provider = FakeProvider(monkeypatch)
    await phrases.prepare(config, stages(config), IGNORE)
    _damage(own_folder)
    await phrases.audio(config.greeting, "ar", stages(config))
    assert len(provider.requests) == PREPARED + 1


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.12, 1.0])
async def test_frames_add_up_to_the_phrase(seconds: float) -> None:
    whole = silence(seconds)
    pieces = [piece async for piece in phrases.frames(whole)]
    assert sum(piece.samples_per_channel for piece in pieces) == whole.samples_per_channel
    assert b"".join(bytes(piece.data) for piece in pieces) == bytes(whole.data)


async def test_no_partial_files_remain(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    FakeProvider(monkeypatch)
    await asyncio.gather(*(phrases.prepare(config, stages(config), IGNORE) for _ in range(3)))
    assert len(os.listdir(own_folder)) == PREPARED
