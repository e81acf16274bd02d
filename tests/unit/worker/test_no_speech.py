"""Transcripts of noise are nothing heard; short answers and quiet speech are kept."""
# ruff: noqa: RUF001 - letters of other alphabets look like Latin ones to a linter.

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import pytest
from livekit.agents import APIConnectOptions
from openai import AsyncOpenAI

from agentspec.wire import WorkerConfig
from tests.unit.worker.fakes import silence
from worker.call import no_speech, voice
from worker.call.turn_stt import TurnSTT

NO_RETRY = APIConnectOptions(max_retry=0, retry_interval=0, timeout=1)

GHOSTS = ["ترجمة نانسي قنقر", "اشتركوا في القناة", "شكرا للمشاهدة", "Thanks for watching!"]
"""Sentences that users of Whisper found in the transcripts of noise."""


class FakeWhisper:
    """An OpenAI API that answers each transcription with `answer`."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.formats: list[str] = []
        self.client = AsyncOpenAI(
            base_url="http://whisper.test/v1",
            api_key="k",
            max_retries=0,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self._respond)),
        )

    def _respond(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/audio/transcriptions"
        self.formats.append("verbose_json" if b"verbose_json" in request.read() else "json")
        return httpx.Response(200, json=self.answer)


def segment(text: str, no_speech_prob: float, avg_logprob: float) -> dict[str, Any]:
    return {"id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": text, "tokens": [], "temperature": 0.0} | {
        "avg_logprob": avg_logprob,
        "compression_ratio": 1.0,
        "no_speech_prob": no_speech_prob,
    }


def verbose(*segments: dict[str, Any]) -> dict[str, Any]:
    text = " ".join(part["text"].strip() for part in segments)
    return {"text": text, "language": "arabic", "duration": 1.0, "segments": list(segments)}


@pytest.fixture
async def whisper() -> AsyncIterator[FakeWhisper]:
    fake = FakeWhisper()
    yield fake
    await fake.client.close()


async def transcript(whisper: FakeWhisper, config: WorkerConfig, model: str = "whisper-1") -> str:
    """Return what the session's own stt stage hears in a recording; empty when it hears nothing."""
    declared = config.voice.model_copy(update={"stt": config.voice.stt.model_copy(update={"model": model})})
    stt = voice.make_session(voice.Stages(declared, whisper.client), "ar").stt
    assert isinstance(stt, TurnSTT)
    event = await stt.recognize(silence(0.5), conn_options=NO_RETRY)
    return event.alternatives[0].text


@pytest.mark.parametrize("text", [*GHOSTS, "you.", "يجب أن يجد أن يكون"])
async def test_segment_that_the_provider_calls_no_speech_is_dropped(
    whisper: FakeWhisper, config: WorkerConfig, text: str
) -> None:
    whisper.answer = verbose(segment(text, 0.92, -1.1))
    assert await transcript(whisper, config) == ""
    assert whisper.formats == ["verbose_json"], "only this format has the measures"


@pytest.mark.parametrize(
    ("text", "no_speech_prob", "avg_logprob"),
    [
        ("نعم", 0.42, -1.17),
        ("لا", 0.5, -0.74),
        ("Yes.", 0.41, -0.73),
        ("No.", 0.29, -0.69),
        ("Ah !", 0.49, -1.09),
        ("يا أمام", 0.37, -1.95),
        ("you", 0.1, -0.5),
        ("Thank you.", 0.3, -0.4),
        ("شكرا", 0.2, -0.9),
        ("Yes.", 0.9, -0.3),
        ("ما هي ساعات العمل؟", 0.02, -1.1),
    ],
)
async def test_short_and_unclear_answers_are_kept(
    whisper: FakeWhisper, config: WorkerConfig, text: str, no_speech_prob: float, avg_logprob: float
) -> None:
    whisper.answer = verbose(segment(text, no_speech_prob, avg_logprob))
    assert await transcript(whisper, config) == text


async def test_spoken_segments_of_a_recording_with_noise_are_kept(whisper: FakeWhisper, config: WorkerConfig) -> None:
    whisper.answer = verbose(segment(" Book a table.", 0.1, -0.2), segment(" Thanks for watching!", 0.8, -1.6))
    assert await transcript(whisper, config) == "Book a table."


@pytest.mark.parametrize(
    "text",
    [
        *GHOSTS,
        "شُكراً للمشاهدة",
        "اشتركوا في القنـاة.",
        "THANK YOU FOR WATCHING",
        "Thanks for watching! Please subscribe to my channel.",
        "Subtitles by the Amara.org community",
        "Sous-titrage Société Radio-Canada",
        "Untertitel im Auftrag des ZDF für funk, 2017",
        "Редактор субтитров А.Семкин Корректор А.Егорова",
        "ご視聴ありがとうございました",
        "Altyazı M.K.",
    ],
)
async def test_subtitle_credits_are_dropped_without_measures(
    whisper: FakeWhisper, config: WorkerConfig, text: str
) -> None:
    whisper.answer = {"text": text}
    assert await transcript(whisper, config, "gpt-4o-transcribe") == ""
    assert whisper.formats == ["json"]


@pytest.mark.parametrize(
    "text",
    [
        "Thanks for watching my dog while I was away.",
        "Can you send me the subtitles by email?",
        "Thank you.",
        "شكراً",
        "شكرا للمشاهدة ولكن متى تبدأ الدورة؟",
        "كيف أشترك في القناة؟",
        "...",
        "نعم",
    ],
)
async def test_speech_that_resembles_a_credit_is_kept(whisper: FakeWhisper, config: WorkerConfig, text: str) -> None:
    whisper.answer = {"text": text}
    assert await transcript(whisper, config, "gpt-4o-transcribe") == text


async def test_segments_of_another_server_need_no_measures(whisper: FakeWhisper, config: WorkerConfig) -> None:
    whisper.answer = {"text": "نعم", "language": "ar", "duration": 1.0, "segments": [{"text": "نعم"}]}
    assert await transcript(whisper, config) == "نعم"


async def test_dropped_transcript_is_logged_without_its_text(
    whisper: FakeWhisper, config: WorkerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=no_speech.__name__)
    whisper.answer = verbose(segment("a secret", 0.9, -1.5))
    await transcript(whisper, config)
    whisper.answer = {"text": GHOSTS[0]}
    await transcript(whisper, config)
    records = [record for record in caplog.records if record.name == no_speech.__name__]
    assert [record.__dict__["reason"] for record in records] == ["no speech", "subtitle credit"]
    assert "secret" not in json.dumps([record.__dict__ for record in records], default=str)
