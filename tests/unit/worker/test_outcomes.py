"""Outcomes of requests, as the stages of the SDK emit them."""

from typing import Any

import pytest
from livekit import rtc
from livekit.agents import APIStatusError, APITimeoutError
from livekit.agents.llm import LLMError
from livekit.agents.metrics import LLMMetrics, STTMetrics, TTSMetrics

from agentspec.wire import ProviderStage, WorkerConfig
from worker.call import outcomes, voice
from worker.provider_reports import StageOutcome

MEASURED: dict[str, Any] = {"label": "l", "request_id": "r", "timestamp": 0.0, "duration": 1.0}
LLM: dict[str, Any] = MEASURED | {
    "completion_tokens": 1,
    "prompt_tokens": 1,
    "prompt_cached_tokens": 0,
    "total_tokens": 2,
    "tokens_per_second": 1.0,
}
TTS: dict[str, Any] = MEASURED | {"audio_duration": 1.0, "characters_count": 3, "streamed": False}


def followed(stage: ProviderStage) -> tuple[rtc.EventEmitter[Any], list[StageOutcome]]:
    emitter: rtc.EventEmitter[Any] = rtc.EventEmitter()
    found: list[StageOutcome] = []
    outcomes.follow(stage, emitter, found.append)
    return emitter, found


@pytest.mark.parametrize(
    ("stage", "measured", "failures"),
    [
        (ProviderStage.LLM, LLMMetrics(**LLM, ttft=0.4, cancelled=False), [None]),
        (ProviderStage.LLM, LLMMetrics(**LLM, ttft=0.4, cancelled=True), [None]),
        (ProviderStage.LLM, LLMMetrics(**LLM, ttft=-1, cancelled=True), []),
        (ProviderStage.LLM, LLMMetrics(**LLM, ttft=-1, cancelled=False), []),
        (ProviderStage.TTS, TTSMetrics(**TTS, ttfb=0.2, cancelled=False), [None]),
        (ProviderStage.TTS, TTSMetrics(**TTS, ttfb=-1, cancelled=True), []),
        (ProviderStage.STT, STTMetrics(**MEASURED, audio_duration=1.0, streamed=False), [None]),
    ],
    ids=[
        "reply",
        "interrupted reply",
        "interrupted before the reply",
        "reply without a word",
        "speech",
        "interrupted before the speech",
        "transcript",
    ],
)
def test_answered_request_is_a_success(stage: ProviderStage, measured: object, failures: list[object]) -> None:
    emitter, found = followed(stage)
    emitter.emit("metrics_collected", measured)
    assert [outcome.failure for outcome in found] == failures
    assert all(outcome.stage is stage for outcome in found)


def test_only_the_failure_after_all_retries_counts() -> None:
    emitter, found = followed(ProviderStage.LLM)
    error = APIStatusError("", status_code=429, body={"code": "insufficient_quota"})
    emitter.emit("error", LLMError(timestamp=0.0, label="l", error=APITimeoutError(), recoverable=True))
    assert found == []
    emitter.emit("error", LLMError(timestamp=0.0, label="l", error=error, recoverable=False))
    (outcome,) = found
    assert outcome.failure is not None
    assert (outcome.failure.status, outcome.failure.code) == (429, "insufficient_quota")


async def test_all_stages_of_a_session_are_followed(config: WorkerConfig) -> None:
    stages = voice.Stages(config.voice, voice.make_client(config.voice, "key"))
    session = voice.make_session(stages, config.language)
    found: list[StageOutcome] = []
    outcomes.follow_session(session, found.append)
    for stage in (session.stt, session.llm, session.tts):
        assert isinstance(stage, rtc.EventEmitter)
        stage.emit("error", LLMError(timestamp=0.0, label="l", error=APITimeoutError(), recoverable=False))
    assert [outcome.stage for outcome in found] == list(ProviderStage)
