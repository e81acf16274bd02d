"""Prometheus series that call processes count; `worker.server.metrics` serves them.

Every series with known labels exists at 0 as soon as this module is imported, which the fork server of the call
processes does. Files hold no exemplars, so these series have none (prometheus-client 0.26, values.py).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from livekit.agents import llm, stt, tts
from livekit.agents.metrics import LLMMetrics, RealtimeModelMetrics, STTMetrics, TTSMetrics
from livekit.agents.voice import AgentSession
from prometheus_client import Counter, Histogram

from agentspec.wire import CallOutcome
from process.metrics import CALL_START_BUCKETS, prefix_of
from worker.realtime import TurnModel

_PREFIX: Final = prefix_of("worker")
_TURN_BUCKETS: Final = (0.25, 0.4, 0.5, 0.6, 0.75, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0)


class AvatarOutcome(StrEnum):
    """How the avatar of a call ended: a label of `avatars_ended_total`."""

    COMPLETED = "completed"
    """It was in the room until the call ended."""
    CANCELLED = "cancelled"
    """The call ended before the avatar joined."""
    REFUSED = "refused"
    """The provider's API refused the request, failed or timed out."""
    NEVER_JOINED = "never_joined"
    LEFT = "left"
    """It left the room during the call."""
    STALLED = "stalled"
    """It was in the room and did not play the agent's audio in time."""


class Stage(StrEnum):
    """A part of the time between the caller's last word and the agent's reply. They follow one another."""

    STT = "stt"
    """From the end of the caller's speech to its transcript."""
    END_OF_TURN = "end_of_turn"
    """From the transcript to the decision that the caller's turn is over."""
    LLM = "llm"
    """To the first token."""
    TTS = "tts"
    """From the first text to the first audio."""


PROVIDER_STAGES: Final = (Stage.STT, Stage.LLM, Stage.TTS)


class Usage(StrEnum):
    """What providers bill by."""

    LLM_INPUT = "llm_input_tokens"
    LLM_OUTPUT = "llm_output_tokens"
    TTS = "tts_characters"
    STT = "stt_audio_seconds"


STARTED = Counter(_PREFIX + "calls_started", "Calls whose agent joined the room.")
ENDED = Counter(_PREFIX + "calls_ended", "Calls that ended, by outcome.", ["outcome"])
CALL_DURATION = Histogram(
    _PREFIX + "call_duration_seconds",
    "Duration of a call, from the start of its job to its end.",
    buckets=(5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200),
)
JOIN_DURATION = Histogram(
    _PREFIX + "agent_join_duration_seconds",
    "Time from the job offer until the agent joined the room.",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
GREETING_DURATION = Histogram(
    _PREFIX + "greeting_duration_seconds",
    "Time from the caller's arrival in the room until the first sound of the greeting. Agents without a greeting have "
    "none.",
    buckets=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
ANSWER_DURATION = Histogram(
    _PREFIX + "answer_duration_seconds",
    "Time from the caller's request to the gateway until the first sound of the greeting, by the clocks of both. Only "
    "calls of a gateway, and only agents with a greeting.",
    buckets=CALL_START_BUCKETS,
)
TURN_DURATION = Histogram(
    _PREFIX + "turn_duration_seconds",
    "Time from the end of the caller's speech until the agent started to reply.",
    buckets=_TURN_BUCKETS,
)
STAGE_DURATION = Histogram(
    _PREFIX + "turn_stage_duration_seconds",
    "Parts of a turn, one after the other: stt (to the transcript), end_of_turn (to the decision that the caller has "
    "finished), llm (to the first token), tts (from the first text to the first audio).",
    ["stage"],
    buckets=_TURN_BUCKETS,
)
PROVIDER_ERRORS = Counter(
    _PREFIX + "provider_errors",
    "Provider requests that failed, by stage: stt, llm or tts. Retried true: the request was sent again; false: it "
    "failed after all retries.",
    ["stage", "retried"],
)
TOOL_USES = Counter(
    _PREFIX + "tool_uses",
    "Uses of the tools that the manifest declares, by tool and outcome: succeeded, failed.",
    ["tool", "outcome"],
)
TOOL_DURATION = Histogram(
    _PREFIX + "tool_duration_seconds",
    "Time that a use of a tool took, while the caller waits.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30),
)
PROVIDER_FALLBACKS = Counter(
    _PREFIX + "provider_fallbacks",
    "Providers that became unavailable in a call, so that a fallback took over, by stage: stt, llm or tts.",
    ["stage"],
)
USAGE = Counter(
    _PREFIX + "provider_usage",
    "What the providers were sent and returned, by kind: llm_input_tokens, llm_output_tokens, tts_characters, "
    "stt_audio_seconds. The greeting and the prepared sentences, which are synthesised once, are not included.",
    ["kind"],
)
AVATARS_STARTED = Counter(_PREFIX + "avatars_started", "Avatars that calls requested from the provider.")
AVATARS_ENDED = Counter(
    _PREFIX + "avatars_ended",
    "Requested avatars that are over, each counted once, by outcome: completed, cancelled (the call ended before it "
    "joined), refused, never_joined, left, stalled.",
    ["outcome"],
)
AVATAR_JOIN_DURATION = Histogram(
    _PREFIX + "avatar_join_duration_seconds",
    "Time from the request for an avatar until its video was in the room.",
    buckets=(0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30),
)

for _outcome in CallOutcome:
    ENDED.labels(_outcome.value)
for _avatar_outcome in AvatarOutcome:
    AVATARS_ENDED.labels(_avatar_outcome.value)
for _stage in Stage:
    STAGE_DURATION.labels(_stage.value)
for _stage in PROVIDER_STAGES:
    PROVIDER_FALLBACKS.labels(_stage.value)
    for _retried in ("true", "false"):
        PROVIDER_ERRORS.labels(_stage.value, _retried)
for _usage in Usage:
    USAGE.labels(_usage.value)


def open_files() -> None:
    """Create this process' files, which takes some milliseconds, before a call waits for it."""
    STARTED.inc(0)


def record_caller_turn(report: Mapping[str, Any]) -> None:
    """Record the stages of a turn that the caller's message reports (livekit-agents 1.8.9, `MetricsReport`).

    The SDK's delay of the turn's end includes that of the transcript.
    """
    transcribed, decided = report.get("transcription_delay"), report.get("end_of_turn_delay")
    if transcribed is not None:
        STAGE_DURATION.labels(Stage.STT).observe(transcribed)
    if decided is not None:
        STAGE_DURATION.labels(Stage.END_OF_TURN).observe(max(0.0, decided - (transcribed or 0.0)))


def record_reply(report: Mapping[str, Any]) -> None:
    """Record a turn that the agent's message reports, with its stages. Messages that answer no turn have no latency."""
    latency = report.get("e2e_latency")
    if latency is None:
        return
    TURN_DURATION.observe(latency)
    for stage, key in ((Stage.LLM, "llm_node_ttft"), (Stage.TTS, "tts_node_ttfb")):
        if report.get(key) is not None:
            STAGE_DURATION.labels(stage).observe(report[key])


def record_usage(measured: object) -> None:
    """Record what one provider request used, as the SDK measured it."""
    match measured:
        case LLMMetrics():
            USAGE.labels(Usage.LLM_INPUT).inc(measured.prompt_tokens)
            USAGE.labels(Usage.LLM_OUTPUT).inc(measured.completion_tokens)
        case RealtimeModelMetrics():
            USAGE.labels(Usage.LLM_INPUT).inc(measured.input_tokens)
            USAGE.labels(Usage.LLM_OUTPUT).inc(measured.output_tokens)
        case TTSMetrics():
            USAGE.labels(Usage.TTS).inc(measured.characters_count)
        case STTMetrics():
            USAGE.labels(Usage.STT).inc(measured.audio_duration)


def follow_usage(session: AgentSession[None]) -> None:
    """Record the usage of a session's stages. The session's own event of this name is deprecated."""
    for stage in (session.stt, session.llm, session.tts):
        if isinstance(stage, stt.STT | llm.LLM | tts.TTS):
            stage.on("metrics_collected", record_usage)
    if isinstance(session.llm, TurnModel):
        session.llm.on_usage = record_usage
