"""The stages stt, llm and tts as declared, and the session with them.

Turn detection uses models that run locally. The package livekit-local-inference contains those for voice activity
(silero) and end of turn (turn-detector-v1-mini), so nothing is downloaded. The end-of-turn model knows fourteen
languages, Arabic among them. For any other language, silence ends the turn.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from livekit.agents import APIConnectOptions, llm, tts, utils
from openai import AsyncOpenAI

from agentspec import VoiceSpec
from agentspec.languages import primary
from agentspec.voice import OPENAI_URL, StageEntry, StageProvider
from agentspec.wire import ProviderStage
from worker import sdk, stages
from worker.call import budget, turn_taking
from worker.call.conversation import BoundedLLM
from worker.call.providers.arguments import SettingsFault
from worker.call.providers.clients import connect
from worker.call.providers.fallback import FallbackLLM, FallbackSTT, FallbackTTS
from worker.call.providers.limited import LimitedSTT
from worker.call.providers.make import Keys, Limits, ProviderStages, new_attempts
from worker.call.providers.sentences import SentenceTTS
from worker.call.speech_detection import SpeechDetector
from worker.call.stream_stt import StreamSTT
from worker.call.tools import Tools
from worker.call.tools.knowledge import knowledge_tool
from worker.call.tools.mcp import MCPTools
from worker.call.turn_stt import SegmentSTT, TurnSTT
from worker.config import WorkerSettings
from worker.provider_availability import ProviderAvailability, unavailable
from worker.realtime import TurnModel
from worker.stages import Attempts

if TYPE_CHECKING:
    from worker.call.retrieval import PassageIndex


logger = logging.getLogger(__name__)


def _connection(attempt_seconds: float) -> APIConnectOptions:
    return stages.PatientOptions(
        max_retry=budget.MAX_RETRIES, retry_interval=budget.RETRY_SECONDS, timeout=attempt_seconds
    )


STT_CONNECTION: Final = _connection(budget.STT_ATTEMPT_SECONDS)
LLM_CONNECTION: Final = _connection(budget.LLM_ATTEMPT_SECONDS)
TTS_CONNECTION: Final = _connection(budget.TTS_ATTEMPT_SECONDS)


def make_client(voice: VoiceSpec, key: str) -> AsyncOpenAI:
    """Return one client for all stages with the common address: TLS is set up once, before the call."""
    return connect(voice.openai.base_url if voice.openai is not None else OPENAI_URL, key)


def make_stages(settings: WorkerSettings) -> "Stages":
    """Return the stages that a worker's configuration declares, with its credentials."""
    declared = settings.config.voice
    keys = Keys(settings.stage_keys, (settings.livekit_key, settings.livekit_secret))
    return Stages(declared, make_client(declared, settings.openai_key), keys)


class Stages:
    """Makes the stages stt, llm and tts of one agent. Nothing else in a call knows their providers."""

    def __init__(self, declared: VoiceSpec, client: AsyncOpenAI, keys: Keys | None = None) -> None:
        """Take the client of the common address, and the keys of all other providers."""
        self._declared = declared
        self._providers = ProviderStages(declared, client, keys or Keys())
        self.on_availability: Callable[[ProviderAvailability], None] = lambda _: None
        """Called when a provider with a fallback becomes unavailable, or available again."""

    def http_session(self) -> AbstractAsyncContextManager[object]:
        """Return a context in which plugins find an HTTP session outside of a call process."""
        return utils.http_context.open() if self._declared.has_settings_to_check else nullcontext()

    @property
    def voice_name(self) -> str:
        """The agent's voice, by the provider's name; empty when the provider's default speaks."""
        return self._declared.spoken_voice or ""

    @property
    def is_realtime(self) -> bool:
        """Whether a realtime model takes the place of stt and llm."""
        return self._declared.realtime is not None

    @property
    def speech_identity(self) -> str:
        """What decides how a text of one language sounds: two agents with the same identity can share its audio."""
        tts, realtime = self._declared.tts, self._declared.realtime
        if realtime is not None:
            address = self._declared.address(next(self._declared.entries_of("llm")))
            return "\0".join(("realtime", address.base_url, realtime.model, realtime.voice))
        if tts.provider is StageProvider.OPENAI and not (tts.options or tts.fallbacks):
            address = self._declared.address(next(self._declared.entries_of("tts")))
            return "\0".join((address.base_url, tts.model or "", tts.voice or ""))
        return tts.model_dump_json()

    def fields(self, stage: str) -> dict[str, object]:
        """Return the log fields that tell where the requests of a stage go first."""
        return self._fields(next(self._declared.entries_of(stage)))

    def _fields(self, entry: StageEntry) -> dict[str, object]:
        provider, found = entry.provider, dict[str, object](stage=entry.stage)
        if provider.provider is not StageProvider.OPENAI:
            found["provider"] = provider.plugin or provider.provider.value
        if provider.provider is StageProvider.OPENAI or provider.base_url is not None:
            found["url"] = provider.base_url or self._declared.address(entry).base_url
        return found

    async def aclose(self) -> None:
        """Close the connections to the providers."""
        await self._providers.aclose()

    def check(self, language: str) -> dict[ProviderStage, str]:
        """Return what is wrong with the settings of each stage; empty when all can be used.

        Imports the declared plugins and creates each stage, as a call does.
        """
        faults: dict[ProviderStage, str] = {}
        for entry in self._declared.entries():
            try:
                self._providers.check(entry, language)
            except SettingsFault as fault:
                faults.setdefault(ProviderStage(entry.stage), str(fault))
        return faults

    def make_stt(self, language: str) -> TurnSTT:
        """Return the stt stage for a language. With fallbacks, it transcribes whole utterances only."""
        entries, _, limits = self._entries("stt")
        providers = [self._providers.stt(entry, language, limit) for entry, limit in zip(entries, limits, strict=True)]
        if len(providers) > 1:
            adapter = FallbackSTT(providers, SpeechDetector(), budget.STT_ATTEMPT_SECONDS)
            adapter.on_availability = partial(self._on_availability, entries)
            return SegmentSTT(adapter)
        (provider,) = providers
        if isinstance(provider, LimitedSTT) and provider.inner.capabilities.streaming:
            return StreamSTT(provider.inner, provider, SpeechDetector())
        return SegmentSTT(provider)

    def make_llm(self) -> llm.LLM[Any]:
        """Return the llm stage."""
        entries, attempts, limits = self._entries("llm")
        providers = [self._providers.llm(entry, limit) for entry, limit in zip(entries, limits, strict=True)]
        if len(providers) == 1:
            return providers[0]
        adapter = FallbackLLM(providers, attempts, budget.LLM_ATTEMPT_SECONDS)
        adapter.on_availability = partial(self._on_availability, entries)
        return adapter

    def make_realtime(self, language: str, *, reconnects: bool = True) -> TurnModel:
        """Return the realtime model. One that reconnects lasts for a whole call."""
        return self._providers.realtime(language, reconnects=reconnects)

    def make_tts(self, language: str) -> tts.TTS[Any]:
        """Return the tts stage for a language.

        A realtime model reads whole sentences, and falls back on the tts that is served.
        """
        if not self.is_realtime:
            return self._declared_tts(language)
        fallback = self._declared_tts(language) if list(self._declared.entries_of("tts")) else None
        return SentenceTTS(partial(self.make_realtime, language, reconnects=False), fallback)

    def _declared_tts(self, language: str) -> tts.TTS[Any]:
        entries, attempts, limits = self._entries("tts")
        providers = [self._providers.tts(entry, language, limit) for entry, limit in zip(entries, limits, strict=True)]
        if len(providers) == 1:
            return providers[0]
        adapter = FallbackTTS(providers, attempts)
        adapter.on_availability = partial(self._on_availability, entries)
        return adapter

    def _entries(self, stage: str) -> tuple[list[StageEntry], Attempts, list[Limits]]:
        """Return the providers of a stage in the order in which to ask them, their attempts, and the limits of each."""
        last = unavailable(stage)
        entries = sorted(self._declared.entries_of(stage), key=lambda entry: entry.position in last)
        attempts = new_attempts()
        return entries, attempts, [Limits(attempts, has_fallback=entry is not entries[-1]) for entry in entries]

    def _on_availability(self, entries: list[StageEntry], index: int, available: bool) -> None:
        entry = entries[index]
        fields = self._fields(entry)
        if available:
            logger.info("provider available again", extra=fields)
        else:
            logger.warning("provider unavailable, using a fallback", extra=fields)
        found = ProviderAvailability(stage=entry.stage, position=entry.position, available=available, at=time.time())
        self.on_availability(found)


def make_session(
    declared: Stages, language: str, index: "PassageIndex | None" = None, tools: Tools | None = None
) -> sdk.CallSession:
    """Return a session with the declared stages.

    `index`: that of a knowledge base which is too large for the instructions; None: there is none. Every agent of the
    call has the `tools`. A realtime model has the index as a tool, and leaves the turns to the session: a server that
    detects them would interrupt the protected greeting.
    """
    tools = tools or []
    model: llm.LLM[Any] | TurnModel
    if declared.is_realtime:
        model = declared.make_realtime(language)
        tools = tools if index is None else [*tools, knowledge_tool(index)]
    else:
        model = BoundedLLM(declared.make_llm(), index)
    session = sdk.CallSession(
        vad=SpeechDetector(),
        stt=None if declared.is_realtime else declared.make_stt(language),
        llm=model,
        tts=declared.make_tts(language),
        tools=tools,
        turn_handling=turn_taking.handling(primary(language)),
        aec_warmup_duration=None,  # it would make the agent deaf for the first 3 s that it speaks
        session_close_transcript_timeout=0.2,
        conn_options=sdk.SessionConnectOptions(
            stt_conn_options=STT_CONNECTION,
            llm_conn_options=LLM_CONNECTION,
            tts_conn_options=TTS_CONNECTION,
            max_unrecoverable_errors=budget.MAX_FAILED_TURNS,
        ),
    )
    for tool in tools:
        if isinstance(tool, MCPTools):
            tool.on_listed = session.refresh_tools
    return session
