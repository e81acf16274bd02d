"""Follows the requests that the stages of a session send to their providers, and passes on how each ended."""

from collections.abc import Callable
from functools import partial
from typing import Any

from livekit import rtc
from livekit.agents import llm, stt, tts
from livekit.agents.metrics import LLMMetrics, STTMetrics, TTSMetrics
from livekit.agents.voice import AgentSession

from agentspec.wire import ProviderStage
from worker.call.providers.sentences import SentenceTTS
from worker.provider_reports import StageOutcome, failed, succeeded
from worker.realtime import TurnModel

_Error = stt.STTError | llm.LLMError | tts.TTSError


def follow_session(session: AgentSession[None], report: Callable[[StageOutcome], None]) -> None:
    """Pass every outcome of the session's stages to `report`."""
    stages = {ProviderStage.STT: session.stt, ProviderStage.LLM: session.llm, ProviderStage.TTS: session.tts}
    for name, stage in stages.items():
        if isinstance(stage, TurnModel):
            stage.on_outcome = partial(_report_reply, report)
        elif isinstance(stage, rtc.EventEmitter) and not isinstance(stage, SentenceTTS):
            follow(name, stage, report)


def _report_reply(report: Callable[[StageOutcome], None], error: Exception | None) -> None:
    """Report the outcome of a realtime model's response."""
    report(succeeded(ProviderStage.LLM) if error is None else failed(ProviderStage.LLM, error))


def follow(name: ProviderStage, stage: rtc.EventEmitter[Any], report: Callable[[StageOutcome], None]) -> None:
    """Pass every outcome of a stage to `report`: each success, and each failure after all retries."""

    def on_metrics(measured: object) -> None:
        if (outcome := _measured(name, measured)) is not None:
            report(outcome)

    def on_error(event: _Error) -> None:
        if not event.recoverable:
            report(failed(name, event.error))

    stage.on("metrics_collected", on_metrics)
    stage.on("error", on_error)


def _measured(name: ProviderStage, measured: object) -> StageOutcome | None:
    """Return the outcome of a request that the SDK measured: it ended without an error.

    An interrupted request may have ended before the provider answered.
    """
    match measured:
        case LLMMetrics(ttft=first) | TTSMetrics(ttfb=first) if first < 0:
            return None
        case LLMMetrics() | TTSMetrics() | STTMetrics():
            return succeeded(name)
        case _:
            return None
