"""Several providers of one stage: the SDK's FallbackAdapter, which asks the next one when one fails.

An adapter reports only that all providers have failed, so the classes here pass on the last provider's own error. The
adapter of stt always streams (livekit-agents 1.8.9, stt/fallback_adapter.py), and a stream that fails loses what the
caller just said. So it is used for whole utterances only: the next provider then transcribes the same audio.
"""

from collections.abc import Callable, Sequence
from typing import Any

from livekit.agents import llm, stt, tts, vad

from worker.stages import Attempts

_Stage = stt.STT[Any] | llm.LLM[Any] | tts.TTS[Any]
_Error = stt.STTError | llm.LLMError | tts.TTSError


class _Adapter:
    """What the adapters of all stages have in common. Comes before the SDK's adapter in the bases."""

    on_availability: Callable[[int, bool], None]
    """Called with the position of a provider that became unavailable (False) or available again (True)."""

    def _follow(self, providers: Sequence[_Stage]) -> None:
        self._providers = list(providers)
        self._error: Exception | None = None
        self.on_availability = lambda _, __: None
        for provider in providers:
            provider.on("error", self._record)

    def _record(self, event: _Error) -> None:
        self._error = event.error

    def emit(self, event: Any, *args: Any) -> None:  # noqa: ANN401 - as in the SDK
        """Override: pass on the provider's error, and which provider became unavailable."""
        match args:
            case (stt.STTError() | llm.LLMError() | tts.TTSError() as failed,) if self._error is not None:
                args = (failed.model_copy(update={"error": self._error}),)
            case (stt.AvailabilityChangedEvent(stt=provider, available=available),):
                provider = provider.wrapped_stt if isinstance(provider, stt.StreamAdapter) else provider
                self.on_availability(self._providers.index(provider), available)
            case (llm.AvailabilityChangedEvent(llm=provider, available=available),):
                self.on_availability(self._providers.index(provider), available)
            case (tts.AvailabilityChangedEvent(tts=provider, available=available),):
                self.on_availability(self._providers.index(provider), available)
        super().emit(event, *args)  # type: ignore[misc] # of the SDK's adapter

    async def aclose(self) -> None:
        """Override: close the providers too, which the adapter leaves open."""
        await super().aclose()  # type: ignore[misc] # of the SDK's adapter
        for provider in self._providers:
            await provider.aclose()


class FallbackSTT(_Adapter, stt.FallbackAdapter):
    """Providers of stt; use `recognize` only."""

    def __init__(self, providers: Sequence[stt.STT[Any]], detector: vad.VAD, attempt_seconds: float) -> None:
        """Take the providers, the first one first. The detector is for streams, which nobody opens."""
        self._follow(providers)
        super().__init__(
            list(providers), vad=detector, attempt_timeout=attempt_seconds, max_retry_per_stt=0, retry_interval=0.0
        )


class FallbackLLM(_Adapter, llm.FallbackAdapter):
    """Providers of llm."""

    def __init__(self, providers: Sequence[llm.LLM[Any]], attempts: Attempts, attempt_seconds: float) -> None:
        """Take the providers, the first one first, and the attempts that they share."""
        self._follow(providers)
        super().__init__(list(providers), attempt_timeout=attempt_seconds, max_retry_per_llm=0, retry_interval=0.0)
        self.attempts = attempts


class FallbackTTS(_Adapter, tts.FallbackAdapter):
    """Providers of tts."""

    def __init__(self, providers: Sequence[tts.TTS[Any]], attempts: Attempts) -> None:
        """Take the providers, the first one first, and the attempts that they share."""
        self._follow(providers)
        super().__init__(list(providers), max_retry_per_tts=0)
        self.attempts = attempts
