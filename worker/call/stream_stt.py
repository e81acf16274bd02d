"""A provider that transcribes while the caller speaks, such as Deepgram.

Its stream may end, or stay open and return nothing. A speech detector therefore notices each utterance. When no text
follows, the utterance is transcribed again by itself: then it was noise, or the stream was stalled and is opened again.
So no stream, whatever it does, costs more than a turn.
"""

import asyncio
import logging
from typing import Any, Final

from livekit import rtc
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr, stt, utils, vad

from worker import stages
from worker.call import budget
from worker.call.providers.limited import LimitedSTT, single
from worker.call.turn_stt import TurnSTT

logger = logging.getLogger(__name__)

_REOPEN_SECONDS: Final = (0.0, 0.3, 1.0, 2.0, 5.0)
"""Pauses before a stream that ended is opened again; the last one repeats."""


class StreamSTT(TurnSTT):
    """A streaming stt, and its recognition of single utterances."""

    def __init__(self, inner: stt.STT[Any], single_utterances: LimitedSTT, detector: vad.VAD) -> None:
        has = inner.capabilities
        super().__init__(
            inner,
            stt.STTCapabilities(streaming=True, interim_results=has.interim_results, manual_flush=has.manual_flush),
        )
        self.single_utterances = single_utterances
        self.detector = detector
        # A stream that ends between two turns costs nothing: the next one is opened.
        inner.on("error", lambda event: self.emit("error", event.model_copy(update={"recoverable": True})))
        single_utterances.on("error", lambda event: self.emit("error", event))

    async def _recognize_impl(
        self, buffer: utils.AudioBuffer, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        """Override: transcribe one utterance by itself."""
        return await self.single_utterances.recognize(buffer, language=language, conn_options=conn_options)

    def stream(
        self, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> stt.RecognizeStream:
        """Override: return a stream that does not end before its input."""
        return _LastingStream(self, language, conn_options)


class _LastingStream(stt.RecognizeStream):
    def __init__(self, stage: StreamSTT, language: NotGivenOr[str], conn_options: APIConnectOptions) -> None:
        super().__init__(stt=stage, conn_options=single(conn_options, conn_options.timeout))
        self._stage = stage
        self._language = language
        self._options = conn_options
        self._provider: stt.RecognizeStream | None = None
        """The provider's stream; None while there is none."""
        self._has_text = asyncio.Event()
        """The provider has transcribed some of the present utterance."""
        self._detection = stage.detector.stream()
        self._pending = set[asyncio.Task[None]]()
        """Wait for the text of an utterance each."""

    async def _metrics_monitor_task(self, event_aiter: Any) -> None:  # noqa: ANN401 - as in the SDK
        """Override: the provider's stream measures itself."""
        async for _ in event_aiter:
            pass

    async def _run(self) -> None:
        """Override: run until the input ends."""
        helpers = [
            asyncio.create_task(self._keep_open(), name="keep_stt_stream_open"),
            asyncio.create_task(self._follow_speech(), name="follow_speech"),
        ]
        try:
            async for item in self._input_ch:
                if isinstance(item, rtc.AudioFrame):
                    self._detection.push_frame(item)
                self._pass_on(item)
        finally:
            await utils.aio.cancel_and_wait(*helpers, *self._pending)
            await self._detection.aclose()

    def _pass_on(self, item: rtc.AudioFrame | stt.RecognizeStream._FlushSentinel) -> None:
        if self._provider is None:
            return
        try:
            if isinstance(item, rtc.AudioFrame):
                self._provider.push_frame(item)
            else:
                self._provider.flush()
        except RuntimeError:  # it has just ended
            self._provider = None

    async def _keep_open(self) -> None:
        """Keep a stream of the provider open, and pass on its events."""
        ended = 0
        while True:
            await asyncio.sleep(_REOPEN_SECONDS[min(ended, len(_REOPEN_SECONDS) - 1)])
            try:
                options = single(self._options, self._options.timeout)
                async with self._stage.inner.stream(language=self._language, conn_options=options) as stream:
                    self._provider = stream
                    async for event in stream:
                        ended = 0
                        self._on_event(event)
            except Exception as error:  # a plugin may raise anything
                logger.warning("stt stream ended, opening another", extra={"error": type(error).__name__})
            finally:
                self._provider = None
            ended += 1

    def _on_event(self, event: stt.SpeechEvent) -> None:
        if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT and any(part.text for part in event.alternatives):
            self._has_text.set()
        self._event_ch.send_nowait(event)

    async def _follow_speech(self) -> None:
        """Notice each utterance, and wait for its text."""
        async for event in self._detection:
            if event.type is vad.VADEventType.START_OF_SPEECH:
                self._has_text.clear()
            elif event.type is vad.VADEventType.END_OF_SPEECH:
                self._stage.on_started()
                waiting = asyncio.create_task(self._await_text(event.frames), name="await_text")
                self._pending.add(waiting)
                waiting.add_done_callback(self._pending.discard)

    async def _await_text(self, utterance: list[rtc.AudioFrame]) -> None:
        """Report when the utterance's text is there. Without one in time, transcribe it by itself."""
        text = False
        try:
            async with asyncio.timeout(budget.STREAM_TEXT_SECONDS):
                await self._has_text.wait()
            text = True
        except TimeoutError:
            text = await self._transcribe(utterance)
        finally:
            self._stage.on_finished(text)

    async def _transcribe(self, utterance: list[rtc.AudioFrame]) -> bool:
        """Transcribe an utterance that the stream returned nothing for; returns whether it has text."""
        try:
            async with asyncio.timeout(budget.STT_SECONDS - budget.STREAM_TEXT_SECONDS):
                event = await self._stage.single_utterances.recognize(
                    utterance, language=self._language, conn_options=self._options
                )
        except TimeoutError:
            stages.emit_timeout(self._stage)
            return False
        except Exception:  # the stage has emitted it
            return False
        if self._has_text.is_set():  # the stream was late
            return True
        if not any(part.text for part in event.alternatives):
            return False
        logger.warning("stt stream was silent, opening another")
        self._event_ch.send_nowait(event)
        if self._provider is not None:
            await self._provider.aclose()
        return True
