"""What is recorded of a call for its report (`spec.report`), from the events of its session."""

import logging
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from livekit.agents import JobContext
from livekit.agents.metrics import LLMModelUsage, STTModelUsage, TTSModelUsage
from livekit.agents.voice import AgentSession, ConversationItemAddedEvent, FunctionToolsExecutedEvent

from agentspec.report import ReportPart, ReportSpec
from agentspec.wire import CallOutcome, DispatchMetadata, ProviderStage, Speaker, WorkerConfig, agent_key, render
from agentspec.wire.callreport import CallReport, ModelUsage, ReportedCall, SaidTurn, TurnLatency, UsedTool
from worker import report_spool
from worker.call.cost import cost_of

logger = logging.getLogger(__name__)

MAX_TURN_BYTES: Final = 64 * 1024
"""Longest text of a turn, in bytes of UTF-8; what follows is cut off."""
_MAX_TEXT_BYTES: Final = report_spool.MAX_REPORT_BYTES // 4
"""Most text of all turns. JSON can take twice the space, and the other parts of a report need some too."""
_MAX_ENTRIES: Final = 2000
"""Most turns, uses of tools and latencies of a report: each of the newest."""

_OfAStage = LLMModelUsage | STTModelUsage | TTSModelUsage
_STAGES: Final = {
    LLMModelUsage: ProviderStage.LLM,
    STTModelUsage: ProviderStage.STT,
    TTSModelUsage: ProviderStage.TTS,
}


class CallRecord:
    """The record of one call. Does nothing when the agent declares no report."""

    def __init__(self, config: WorkerConfig, metadata: DispatchMetadata) -> None:
        self._config = config
        self._metadata = metadata
        self._started = time.time()
        self._session: AgentSession[None] | None = None
        self._turns: deque[SaidTurn] = deque()
        self._text_bytes = 0
        self._left_out = 0
        self._tools: deque[UsedTool] = deque(maxlen=_MAX_ENTRIES)
        self._latencies: deque[TurnLatency] = deque(maxlen=_MAX_ENTRIES)
        self._heard: Mapping[str, Any] = {}
        """What the newest message of the caller reports about the time until the turn's end."""

    def follow(self, session: AgentSession[None]) -> None:
        """Record what happens in the session, which has not started."""
        if self._config.report is None:
            return
        self._session = session
        session.on("conversation_item_added", self._on_item)
        session.on("function_tools_executed", self._on_tools)

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if item.type != "message":
            return
        if item.role == "user":
            self._heard = item.metrics
        elif (total := item.metrics.get("e2e_latency")) is not None:
            self._latencies.append(_latency(total, self._heard, item.metrics))
        speaker = Speaker.CALLER if item.role == "user" else Speaker.AGENT
        if text := _cut(item.text_content or ""):
            self._add(SaidTurn(speaker=speaker, text=text, at=_now(), interrupted=item.interrupted))

    def _add(self, turn: SaidTurn) -> None:
        self._turns.append(turn)
        self._text_bytes += len(turn.text.encode())
        while self._text_bytes > _MAX_TEXT_BYTES or len(self._turns) > _MAX_ENTRIES:
            self._text_bytes -= len(self._turns.popleft().text.encode())
            self._left_out += 1

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            self._tools.append(UsedTool(name=call.name[:128], at=_now(), failed=output.is_error))

    def finish(self, context: JobContext, outcome: CallOutcome) -> None:
        """Leave the report to the worker's main process. Never raises."""
        report = self._config.report
        if report is None:
            return
        try:
            document = render(self.report(report, context, outcome))
            folder = report_spool.folder_of(self._config.namespace, self._config.name)
            report_spool.add(folder, context.job.id, document)
        except Exception as error:  # the call must end whatever fails here
            logger.error("could not store the report of the call", extra={"error": type(error).__name__})

    def report(self, declared: ReportSpec, context: JobContext, outcome: CallOutcome) -> CallReport:
        """Return the report of the call, which ends now."""
        ended = time.time()
        usage = usage_of(self._session) if self._session is not None else []
        has_text = ReportPart.TRANSCRIPT in declared.include
        has_usage = ReportPart.USAGE in declared.include
        call = ReportedCall(
            call_id=self._metadata.call_id,
            job_id=context.job.id,
            agent=agent_key(self._config.namespace, self._config.name),
            agent_name=self._config.agent_name,
            room=context.job.room.name,
            user_id=self._metadata.user_id,
            language=self._config.language,
            started_at=datetime.fromtimestamp(self._started, UTC),
            ended_at=datetime.fromtimestamp(ended, UTC),
            seconds=round(ended - self._started, 3),
            outcome=outcome,
            turns=list(self._turns) if has_text else None,
            turns_left_out=self._left_out if has_text else 0,
            tools=list(self._tools) if has_text else None,
            usage=usage if has_usage else None,
            latencies=list(self._latencies) if ReportPart.LATENCIES in declared.include else None,
            cost=cost_of(usage, declared.prices) if has_usage and declared.prices is not None else None,
        )
        return CallReport(timestamp=call.ended_at, data=call)


def usage_of(session: AgentSession[None]) -> list[ModelUsage]:
    """Return what the models of the session's stages used, as the SDK sums it up."""
    return [_usage(used) for used in session.usage.model_usage if isinstance(used, _OfAStage)]


def _usage(used: _OfAStage) -> ModelUsage:
    return ModelUsage(
        stage=_STAGES[type(used)],
        provider=used.provider,
        model=used.model,
        input_tokens=used.input_tokens,
        cached_input_tokens=used.input_cached_tokens if isinstance(used, LLMModelUsage) else 0,
        output_tokens=used.output_tokens,
        characters=used.characters_count if isinstance(used, TTSModelUsage) else 0,
        audio_seconds=0.0 if isinstance(used, LLMModelUsage) else round(used.audio_duration, 3),
    )


def _latency(total: float, heard: Mapping[str, Any], replied: Mapping[str, Any]) -> TurnLatency:
    """Return the latency of a reply. The SDK's delay of the turn's end includes that of the transcript."""
    transcribed, decided = heard.get("transcription_delay"), heard.get("end_of_turn_delay")
    return TurnLatency(
        at=_now(),
        total_seconds=round(total, 3),
        stt_seconds=_rounded(transcribed),
        end_of_turn_seconds=_rounded(None if decided is None else max(0.0, decided - (transcribed or 0.0))),
        llm_seconds=_rounded(replied.get("llm_node_ttft")),
        tts_seconds=_rounded(replied.get("tts_node_ttfb")),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _cut(text: str) -> str:
    """Return the beginning of a text, whole characters only. JSON cannot express lone surrogates."""
    return text.encode(errors="ignore")[:MAX_TURN_BYTES].decode(errors="ignore").strip()


def _now() -> datetime:
    return datetime.now(UTC)
