"""Makes the stage of one declared provider: of OpenAI's API, of a plugin, or of LiveKit's model gateway."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from livekit.agents import inference, llm, stt, tts
from livekit.plugins import openai
from openai import AsyncOpenAI
from openai.types.realtime import AudioTranscription

from agentspec import VoiceSpec
from agentspec.languages import primary, transcription_code, usual
from agentspec.voice import Address, RealtimeSpec, StageEntry, StageProvider, TextToSpeechProvider
from worker import stages
from worker.call import budget, no_speech, thinking
from worker.call.providers.arguments import SettingsFault, checked, plugin_class
from worker.call.providers.clients import connect
from worker.call.providers.limited import LimitedLLM, LimitedSTT, LimitedTTS
from worker.realtime import TurnModel

_GATEWAY: Final[Mapping[str, type[Any]]] = {"stt": inference.STT, "llm": inference.LLM, "tts": inference.TTS}
_OPENAI: Final[Mapping[str, type[Any]]] = {"stt": openai.STT, "llm": openai.LLM, "tts": openai.TTS}

_TRANSCRIPTION_MODEL: Final = "gpt-4o-mini-transcribe"
"""Transcribes what a realtime model hears, for captions and the conversation's text. OpenAI bills it separately."""


def new_attempts() -> stages.Attempts:
    """Return the attempts of a stage, none of which is under way."""
    return stages.Attempts(budget.MAX_RETRY_AFTER_SECONDS)


@dataclass(frozen=True)
class Limits:
    """The limits of one provider's attempts."""

    attempts: stages.Attempts = field(default_factory=new_attempts)
    has_fallback: bool = False
    """Another provider takes over, so waiting long for this one helps no caller."""

    def seconds(self, alone: float, with_fallback: float) -> float:
        """Return the longest wait, of a provider without fallbacks or of one that has some."""
        return min(alone, with_fallback) if self.has_fallback else alone


@dataclass(frozen=True)
class Keys:
    """The keys of all providers but the common one."""

    own: Mapping[str, str] = field(default_factory=dict)
    """Keys of stages and fallbacks, by environment variable."""
    livekit: tuple[str, str] = ("", "")
    """Key and secret, for LiveKit's model gateway."""


class ProviderStages:
    """Makes the stages of single providers. Stages with the same address share a client, and with it connections."""

    def __init__(self, declared: VoiceSpec, common: AsyncOpenAI, keys: Keys) -> None:
        self._declared = declared
        self._common = common
        self._keys = keys
        self._clients: dict[Address, AsyncOpenAI] = {}

    async def aclose(self) -> None:
        """Close the connections of the clients."""
        for client in (self._common, *self._clients.values()):
            await client.close()

    def check(self, entry: StageEntry, language: str) -> None:
        """Create the stage of a provider as a call does. Raises SettingsFault, which never contains a key."""
        make: dict[str, Callable[[Limits], object]] = {
            "stt": partial(self.stt, entry, language),
            "llm": partial(self.llm, entry),
            "tts": partial(self.tts, entry, language),
        }
        if isinstance(entry.provider, RealtimeSpec):
            make["llm"] = lambda _: self.realtime(language, reconnects=False)
        try:
            make[entry.stage](Limits())
        except SettingsFault:
            raise
        except Exception as error:
            text = str(error) if not self._has_key(str(error)) else "its constructor failed"
            raise SettingsFault(f"{entry.field}: {type(error).__name__}: {text}") from error

    def _has_key(self, text: str) -> bool:
        return any(key in text for key in (*self._keys.own.values(), *self._keys.livekit) if key)

    def stt(self, entry: StageEntry, language: str, limits: Limits) -> stt.STT[Any]:
        """Return a provider's stt for a language."""
        seconds = limits.seconds(budget.STT_ATTEMPT_SECONDS, budget.STT_FALLBACK_SECONDS)
        if entry.provider.provider is not StageProvider.OPENAI:
            inner = self._unknown(entry, {"language": usual(language)})
            return LimitedSTT(inner, attempt_seconds=seconds, attempts=limits.attempts)
        options = {
            "language": transcription_code(language),
            "model": entry.provider.model,
            "use_realtime": False,
        }
        return stages.TimeLimitedSTT(
            attempt_seconds=seconds,
            attempts=limits.attempts,
            client=no_speech.speech_only(self._client(entry)),
            **options | checked(entry, _OPENAI["stt"], {}, {}),
        )

    def llm(self, entry: StageEntry, limits: Limits) -> llm.LLM[Any]:
        """Return a provider's llm."""
        seconds = limits.seconds(budget.LLM_ATTEMPT_SECONDS, budget.FALLBACK_SECONDS)
        if entry.provider.provider is not StageProvider.OPENAI:
            return LimitedLLM(self._unknown(entry, {}), attempt_seconds=seconds, attempts=limits.attempts)
        reply = thinking.limits(entry.provider.model or "")
        return stages.ReplyLLM(
            max_tokens=reply.max_tokens,
            effort=reply.effort,
            attempt_seconds=seconds,
            attempts=limits.attempts,
            client=self._client(entry),
            **{"model": entry.provider.model} | checked(entry, _OPENAI["llm"], {}, {}),
        )

    def tts(self, entry: StageEntry, language: str, limits: Limits) -> tts.TTS[Any]:
        """Return a provider's tts for a language, which OpenAI's hears from the text.

        OpenAI's sends raw samples, so there is no codec between it and the room.
        """
        seconds = limits.seconds(budget.TTS_ATTEMPT_SECONDS, budget.FALLBACK_SECONDS)
        provider = entry.provider
        if provider.provider is not StageProvider.OPENAI:
            inner = self._unknown(entry, {"language": primary(language)})
            return LimitedTTS(inner, gap_seconds=seconds, attempts=limits.attempts)
        options = {"model": provider.model, "voice": _voice(entry), "response_format": "pcm"}
        return stages.TimeLimitedTTS(
            gap_seconds=seconds,
            attempts=limits.attempts,
            client=self._client(entry),
            **options | checked(entry, _OPENAI["tts"], {}, {}),
        )

    def realtime(self, language: str, *, reconnects: bool) -> TurnModel:
        """Return the realtime model for a language, which its transcripts have."""
        entry = next(self._declared.entries_of("llm"))
        provider = entry.provider
        assert isinstance(provider, RealtimeSpec)
        client = self._client(entry)
        address = urlsplit(self._declared.address(entry).base_url)
        return TurnModel(
            reconnects=reconnects,
            model=provider.model,
            voice=provider.voice,
            api_key=client.api_key,
            # With a complete path: the plugin completes only those that it knows.
            base_url=address._replace(path=f"{address.path.rstrip('/')}/realtime").geturl(),
            modalities=["audio"],
            input_audio_transcription=AudioTranscription(
                model=_TRANSCRIPTION_MODEL, language=transcription_code(language)
            ),
        )

    def _unknown(self, entry: StageEntry, suggested: Mapping[str, object]) -> Any:  # noqa: ANN401 - a stage of any kind
        """Return the stage of a plugin, or of LiveKit's model gateway."""
        provider = entry.provider
        given = {"model": provider.model, "voice": _voice(entry), "base_url": provider.base_url}
        if provider.provider is StageProvider.INFERENCE:
            key, secret = self._keys.livekit
            keys: dict[str, str | None] = {"api_key": key, "api_secret": secret}
            cls = _GATEWAY[entry.stage]
        else:
            keys = {"api_key": self._keys.own.get(entry.key_variable)}
            cls = plugin_class(entry)
        return cls(**checked(entry, cls, given | keys, suggested))

    def _client(self, entry: StageEntry) -> AsyncOpenAI:
        address = self._declared.address(entry)
        if address.is_common:
            return self._common
        if address not in self._clients:
            self._clients[address] = connect(address.base_url, self._keys.own.get(entry.key_variable, ""))
        return self._clients[address]


def _voice(entry: StageEntry) -> str | None:
    return entry.provider.voice if isinstance(entry.provider, TextToSpeechProvider) else None
