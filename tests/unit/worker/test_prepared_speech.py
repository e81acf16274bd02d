"""Prepared sentences play in bounded time, and become part of the conversation."""

import asyncio
from collections.abc import AsyncIterable
from typing import Any, cast

import pytest
from livekit import rtc

from agentspec.wire import WorkerConfig
from tests.unit.worker.fakes import silence
from worker.call import budget, phrases
from worker.call.prepared_speech import PreparedSpeech


class FakeSession:
    """A session that plays when the test says; also the speech that it returns."""

    def __init__(self) -> None:
        self.said: list[tuple[str, bool]] = []
        self.may_play = asyncio.Event()

    def say(self, text: str, *, audio: AsyncIterable[rtc.AudioFrame], allow_interruptions: bool) -> "FakeSession":
        assert audio is not None
        self.said.append((text, allow_interruptions))
        return self

    async def wait_for_playout(self) -> None:
        await self.may_play.wait()


class Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: WorkerConfig, audio: rtc.AudioFrame | None) -> None:
        async def stored(_: str, language: str, __: object) -> rtc.AudioFrame | None:
            assert language == config.language
            return audio

        monkeypatch.setattr(phrases, "audio", stored)
        self.session = FakeSession()
        self.speech = PreparedSpeech(cast(Any, self.session), cast(Any, None), config.language)


@pytest.mark.parametrize("allow_interruptions", [True, False])
async def test_sentence_returns_when_it_has_played(
    monkeypatch: pytest.MonkeyPatch, config: WorkerConfig, allow_interruptions: bool
) -> None:
    scene = Scene(monkeypatch, config, silence(0.1))
    saying = asyncio.create_task(scene.speech.say("goodbye", allow_interruptions=allow_interruptions))
    await asyncio.sleep(0.01)
    assert not saying.done()
    scene.session.may_play.set()
    await asyncio.wait_for(saying, 1)
    assert scene.session.said == [("goodbye", allow_interruptions)]


async def test_sentence_without_audio_is_left_out(monkeypatch: pytest.MonkeyPatch, config: WorkerConfig) -> None:
    scene = Scene(monkeypatch, config, None)
    await asyncio.wait_for(scene.speech.say("goodbye", allow_interruptions=True), 1)
    assert scene.session.said == []


async def test_sentence_that_never_plays_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, config: WorkerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(budget, "SAY_SECONDS", 0.02)
    scene = Scene(monkeypatch, config, silence(0.1))
    await asyncio.wait_for(scene.speech.say("goodbye", allow_interruptions=True), 1)
    assert "prepared sentence did not play in time" in caplog.text
