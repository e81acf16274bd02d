"""Stages of any provider with the limits of a call, for plugins that this project does not know.

A plugin may ignore its connection options, wait without end, or return nothing. Each class here wraps a plugin's stage
and runs each attempt with a time limit; an empty reply is an error. The SDK's base classes retry, and emit errors and
metrics, as for any stage.

- stt: one utterance at a time. A plugin that only streams gets a stream for each utterance.
- tts: one sentence at a time, so that a sentence that fails can be requested again.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    APITimeoutError,
    ChatContext,
    NotGivenOr,
    llm,
    stt,
    tts,
    utils,
)

from worker.stages import Attempts, EmptyReply

T = TypeVar("T")


def single(options: APIConnectOptions, seconds: float) -> APIConnectOptions:
    """Return the options of one attempt: the wrapper retries, not the plugin."""
    return dataclasses.replace(options, max_retry=0, timeout=seconds)


async def _in_time(items: AsyncIterator[T], seconds: float, what: str) -> AsyncIterator[T]:
    """Yield the items. Raises APITimeoutError when none comes within the time."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                item = await anext(items)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise APITimeoutError(f"no {what} for {seconds:g} s") from None
        yield item


class LimitedSTT(stt.STT[Any]):
    """A plugin's stt, which transcribes one utterance within a time limit."""

    def __init__(self, inner: stt.STT[Any], *, attempt_seconds: float, attempts: Attempts) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self.inner = inner
        self._attempt_seconds = attempt_seconds
        self._attempts = attempts

    @property
    def model(self) -> str:
        return self.inner.model

    @property
    def provider(self) -> str:
        return self.inner.provider

    async def _recognize_impl(
        self, buffer: utils.AudioBuffer, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        """Override: `recognize` calls this for each attempt and retries after an APIError."""
        options = single(conn_options, self._attempt_seconds)
        try:
            with self._attempts.attempt():
                async with asyncio.timeout(self._attempt_seconds):
                    if self.inner.capabilities.offline_recognize:
                        return await self.inner.recognize(buffer, language=language, conn_options=options)
                    return await self._stream(buffer, language, options)
        except TimeoutError:
            raise APITimeoutError(f"no transcription within {self._attempt_seconds:g} s") from None

    async def _stream(
        self, buffer: utils.AudioBuffer, language: NotGivenOr[str], options: APIConnectOptions
    ) -> stt.SpeechEvent:
        """Transcribe an utterance with a stream of its own."""
        texts = []
        async with self.inner.stream(language=language, conn_options=options) as stream:
            for frame in buffer if isinstance(buffer, list) else [buffer]:
                stream.push_frame(frame)
            stream.end_input()
            async for event in stream:
                if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT and event.alternatives:
                    texts.append(event.alternatives[0])
        final = stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT)
        if texts:
            text = " ".join(part.text for part in texts if part.text)
            final.alternatives = [dataclasses.replace(texts[0], text=text)]
        return final

    async def aclose(self) -> None:
        await self.inner.aclose()


class LimitedLLM(llm.LLM[Any]):
    """A plugin's llm with a limit on the time without a token."""

    def __init__(self, inner: llm.LLM[Any], *, attempt_seconds: float, attempts: Attempts) -> None:
        super().__init__()
        self.inner = inner
        self.attempt_seconds = attempt_seconds
        self.attempts = attempts

    @property
    def model(self) -> str:
        return self.inner.model

    @property
    def provider(self) -> str:
        return self.inner.provider

    def chat(
        self,
        *,
        chat_ctx: ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **options: Any,
    ) -> llm.LLMStream:
        """Return a stream that fails without a word or a tool call."""
        return _LimitedReply(self, chat_ctx, tools or [], conn_options, options)

    def prewarm(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.inner.prewarm(loop=loop)

    async def aclose(self) -> None:
        await self.inner.aclose()


class _LimitedReply(llm.LLMStream):
    # As in the SDK's FallbackAdapter: the plugin's own stream records the request in traces.
    _llm_request_span_name = "limited_llm"
    _llm_attempt_span_name = None
    _genai_operation_name = None

    def __init__(
        self,
        stage: LimitedLLM,
        chat_ctx: ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
        options: dict[str, Any],
    ) -> None:
        super().__init__(stage, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._stage = stage
        self._options = options

    async def _run(self) -> None:
        """Override: the stream calls this for each attempt and retries after an APIError."""
        limit = self._stage.attempt_seconds
        with self._stage.attempts.attempt():
            async with self._stage.inner.chat(
                chat_ctx=self._chat_ctx,
                tools=self._tools,
                conn_options=single(self._conn_options, limit),
                **self._options,
            ) as reply:
                async for chunk in _in_time(aiter(reply), limit, "token"):
                    self._event_ch.send_nowait(chunk)
            if not self._event_ch.output_sent:
                raise EmptyReply("", 0)


class LimitedTTS(tts.TTS[Any]):
    """A plugin's tts with a limit on the time without audio, before the first sample and between samples."""

    def __init__(self, inner: tts.TTS[Any], *, gap_seconds: float, attempts: Attempts) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=inner.sample_rate,
            num_channels=inner.num_channels,
        )
        self.inner = inner
        self.gap_seconds = gap_seconds
        self.attempts = attempts

    @property
    def model(self) -> str:
        return self.inner.model

    @property
    def provider(self) -> str:
        return self.inner.provider

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Return a stream with the limit."""
        return _LimitedSpeech(self, text, conn_options)

    def prewarm(self) -> None:
        self.inner.prewarm()

    async def aclose(self) -> None:
        await self.inner.aclose()


class _LimitedSpeech(tts.ChunkedStream):
    _tts_request_span_name = "limited_tts"
    _tts_attempt_span_name = None

    def __init__(self, stage: LimitedTTS, text: str, options: APIConnectOptions) -> None:
        super().__init__(tts=stage, input_text=text, conn_options=options)
        self._stage = stage

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        """Override: the stream calls this for each attempt and retries after an APIError."""
        stage = self._stage
        output_emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=stage.sample_rate,
            num_channels=stage.num_channels,
            mime_type="audio/pcm",
        )
        with stage.attempts.attempt():
            options = single(self._conn_options, stage.gap_seconds)
            async with stage.inner.synthesize(self._input_text, conn_options=options) as speech:
                async for part in _in_time(aiter(speech), stage.gap_seconds, "audio"):
                    output_emitter.push(part.frame.data.tobytes())
        output_emitter.flush()
