"""The stages stt, llm and tts of the OpenAI plugin, with limits that the plugin lacks (livekit-agents 1.8.9).

Like `worker.sdk`, this module overrides private methods of the SDK, and states what the SDK lacks.
tests/unit/worker/test_stages.py runs the installed SDK, and fails when a new version changes what it relies on.
"""

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    APIStatusError,
    APITimeoutError,
    ChatContext,
    NotGivenOr,
    llm,
    stt,
    tts,
    utils,
)
from livekit.agents.inference.llm import min_reasoning_effort
from livekit.agents.llm import ChatChunk, LLMError, Tool
from livekit.agents.llm.utils import ThinkingTokenFilter
from livekit.agents.stt import STTError
from livekit.agents.tts import TTSError
from livekit.plugins import openai
from livekit.plugins.openai.llm import LLMStream
from livekit.plugins.openai.tts import ChunkedStream
from openai.types.chat.chat_completion_chunk import Choice

from worker import retry_after


class PatientOptions(APIConnectOptions):
    """Connection options whose pause before a retry is the one that the provider asked for."""

    def _interval_for_retry(self, num_retries: int) -> float:
        """Override: all three stages call this after a failed attempt, in the task that made it."""
        asked = retry_after.seconds()
        return super()._interval_for_retry(num_retries) if asked is None else asked


class Attempts:
    """The attempts of one stage that are under way, and the longest pause that a retry may take."""

    def __init__(self, max_retry_after: float) -> None:
        self._max_retry_after = max_retry_after
        self.active = 0
        """Attempts that wait for the provider."""

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Count an attempt. Its error is not retried when a retry would come too late or fail again."""
        retry_after.forget()
        self.active += 1
        try:
            yield
        except APIStatusError as error:
            asked = retry_after.seconds()
            is_late = asked is not None and asked > self._max_retry_after
            has_no_quota = isinstance(error.body, dict) and error.body.get("code") == "insufficient_quota"
            if is_late or has_no_quota:
                error.retryable = False
            raise
        finally:
            self.active -= 1


class TimeLimitedSTT(openai.STT):
    """OpenAI's transcription with a limit on each attempt.

    The plugin passes a read timeout of 30 s to the client whatever its connection options say.
    """

    def __init__(self, *, attempt_seconds: float, attempts: Attempts, **options: Any) -> None:
        """Take the keyword arguments of openai.STT, and the longest duration of one attempt."""
        super().__init__(**options)
        self.attempt_seconds = attempt_seconds
        self.attempts = attempts

    async def _recognize_impl(self, buffer: utils.AudioBuffer, **options: Any) -> stt.SpeechEvent:
        """Override: `recognize` calls this for each attempt and retries after an APIError."""
        try:
            with self.attempts.attempt():
                async with asyncio.timeout(self.attempt_seconds):
                    return await super()._recognize_impl(buffer, **options)
        except TimeoutError:
            raise APITimeoutError(f"no transcription within {self.attempt_seconds:g} s") from None


class TimeLimitedTTS(openai.TTS):
    """OpenAI's speech with a limit on the time without audio, before the first sample and between samples.

    The plugin passes a read timeout of 30 s to the client whatever its connection options say.
    """

    def __init__(self, *, gap_seconds: float, attempts: Attempts, **options: Any) -> None:
        """Take the keyword arguments of openai.TTS, and the longest time without audio."""
        super().__init__(**options)
        self.gap_seconds = gap_seconds
        self.attempts = attempts

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Override: return a stream with the limit."""
        return _TimeLimitedSpeech(self, text, conn_options)


class _TimeLimitedSpeech(ChunkedStream):
    def __init__(self, stage: TimeLimitedTTS, text: str, options: APIConnectOptions) -> None:
        super().__init__(tts=stage, input_text=text, conn_options=options)
        self._stage = stage

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        """Override: the stream calls this for each attempt and retries after an APIError."""
        loop, limit, push = asyncio.get_running_loop(), self._stage.gap_seconds, output_emitter.push
        try:
            with self._stage.attempts.attempt():
                async with asyncio.timeout(limit) as deadline:

                    def push_in_time(data: bytes) -> None:
                        deadline.reschedule(loop.time() + limit)
                        push(data)

                    object.__setattr__(output_emitter, "push", push_in_time)
                    await super()._run(output_emitter)
        except TimeoutError:
            raise APITimeoutError(f"no audio for {limit:g} s") from None


class EmptyReply(APIStatusError):
    """The model answered without a word or a tool call. The provider counts it as a success."""

    def __init__(self, finish_reason: str, max_tokens: int) -> None:
        """Take the provider's finish reason, and the limit on completion tokens."""
        reason = finish_reason or "none"
        super().__init__(f"empty reply, finish reason {reason}", status_code=200, retryable=False)
        self.finish_reason = finish_reason
        self.max_tokens = max_tokens


class ReplyLLM(openai.LLM):
    """OpenAI's chat completions, where an empty reply is an error. The plugin passes it on as a reply of no words.

    A reply that only calls tools is not empty.
    """

    def __init__(
        self, *, max_tokens: int, effort: str, attempt_seconds: float, attempts: Attempts, **options: Any
    ) -> None:
        """Take the keyword arguments of openai.LLM and the limits of a reply; `effort` may be empty."""
        super().__init__(**options)
        self.attempt_seconds = attempt_seconds
        self.attempts = attempts
        self.max_tokens = max_tokens
        self.effort = effort

    def chat(
        self,
        *,
        chat_ctx: ChatContext,
        tools: list[Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
        **options: Any,
    ) -> LLMStream:
        """Override: return a stream that fails without a word or a tool call. The request's own options have priority.

        The plugin creates the stream. Its task starts when this method has returned, and then runs the override.
        """
        limits: dict[str, Any] = {"max_completion_tokens": self.max_tokens}
        if self.effort:
            limits["reasoning_effort"] = self.effort
        stream = super().chat(
            chat_ctx=chat_ctx,
            tools=tools,
            conn_options=dataclasses.replace(conn_options, timeout=self.attempt_seconds),
            extra_kwargs=limits | (extra_kwargs or {}),
            **options,
        )
        return _ReplyStream.of(stream, self)


class _ReplyStream(LLMStream):
    _stage: ReplyLLM
    _finish_reason: str

    @classmethod
    def of(cls, stream: LLMStream, stage: ReplyLLM) -> "_ReplyStream":
        """Return the same stream as one of this class."""
        stream.__class__ = cls
        assert isinstance(stream, cls)
        stream._stage, stream._finish_reason = stage, ""
        return stream

    async def _run(self) -> None:
        """Override: the stream calls this for each attempt and retries after an APIError."""
        with self._stage.attempts.attempt():
            await super()._run()
            if not self._event_ch.output_sent:
                raise EmptyReply(self._finish_reason, self._stage.max_tokens)

    def _parse_choice(self, id: str, choice: Choice, thinking_filter: ThinkingTokenFilter) -> ChatChunk | None:
        """Override: the SDK's chunks have no finish reason."""
        self._finish_reason = choice.finish_reason or self._finish_reason
        return super()._parse_choice(id, choice, thinking_filter)


def is_busy(stage: object) -> bool:
    """Return whether a stage of the session waits for its provider."""
    attempts = getattr(stage, "attempts", None)
    return isinstance(attempts, Attempts) and attempts.active > 0


def emit_timeout(stage: stt.STT[Any] | llm.LLM[Any] | tts.TTS[Any]) -> None:
    """Emit the error of a stage that took too long in all, as the stage itself does after its last attempt.

    The session counts the error, and emits it in turn.
    """
    error = APITimeoutError("the turn took too long", retryable=False)
    match stage:
        case stt.STT():
            kind: type[STTError | LLMError | TTSError] = STTError
        case llm.LLM():
            kind = LLMError
        case _:
            kind = TTSError
    stage.emit("error", kind(timestamp=time.time(), label=stage.label, error=error, recoverable=False))


def lowest_reasoning_effort(model: str) -> str:
    """Return the lowest `reasoning_effort` that a model takes; empty for a model that the SDK does not know."""
    return min_reasoning_effort(model) or ""
