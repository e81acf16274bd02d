"""The stt stage as a session sees it: a failure costs the turn, not the call, and the call knows when text is due.

The SDK stops its stt when a transcription has failed after all retries. So `SegmentSTT` returns an empty transcript
instead, and `StreamSTT` opens its stream again.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr, stt, utils

from worker import stages
from worker.call import budget


class TurnSTT(stt.STT[Any]):
    """The stt stage of a session, around a provider's."""

    def __init__(self, inner: stt.STT[Any], capabilities: stt.STTCapabilities) -> None:
        super().__init__(capabilities=capabilities)
        self.inner = inner
        self.on_started: Callable[[], None] = lambda: None
        """Called when the caller has stopped speaking, and a transcript is due."""
        self.on_finished: Callable[[bool], None] = lambda _: None
        """Called when a transcription has ended, with whether it has text."""
        inner.on("metrics_collected", lambda measured: self.emit("metrics_collected", measured))

    @property
    def model(self) -> str:
        return self.inner.model

    @property
    def provider(self) -> str:
        return self.inner.provider

    async def _recognize_impl(
        self, buffer: utils.AudioBuffer, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        """Override: the provider's own recognition."""
        return await self.inner.recognize(buffer, language=language, conn_options=conn_options)

    async def aclose(self) -> None:
        await self.inner.aclose()


class SegmentSTT(TurnSTT):
    """Transcribes each utterance when it has ended."""

    def __init__(self, inner: stt.STT[Any]) -> None:
        super().__init__(inner, stt.STTCapabilities(streaming=False, interim_results=False))
        inner.on("error", lambda event: self.emit("error", event))

    async def recognize(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        """Override: return an empty transcript instead of an error."""
        event = stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT)
        self.on_started()
        try:
            async with asyncio.timeout(budget.STT_SECONDS):
                event = await self.inner.recognize(buffer, language=language, conn_options=conn_options)
        except TimeoutError:
            stages.emit_timeout(self)
        except Exception:  # the provider's stage has emitted it
            pass
        finally:
            self.on_finished(any(alternative.text for alternative in event.alternatives))
        return event
