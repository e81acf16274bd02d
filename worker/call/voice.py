"""The stages stt, llm and tts with the OpenAI plugin, and turn detection with models that run locally.

The package livekit-local-inference contains the models for voice activity (silero) and end of turn
(turn-detector-v1-mini), so nothing is downloaded. The end-of-turn model knows fourteen languages, Arabic among them.
For any other language, silence ends the turn.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from livekit.agents import (
    NOT_GIVEN,
    APIConnectOptions,
    APIError,
    NotGivenOr,
    llm,
    stt,
    tts,
    utils,
)
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

from agentspec import VoiceSpec
from worker import retry_after, sdk, stages
from worker.call import budget, no_speech, prompt, thinking, turn_taking
from worker.call.conversation import BoundedLLM
from worker.call.speech_detection import SpeechDetector
from worker.call.tools import Tools
from worker.config import WorkerSettings

if TYPE_CHECKING:
    from worker.call.retrieval import PassageIndex


def _connection(attempt_seconds: float) -> APIConnectOptions:
    return stages.PatientOptions(
        max_retry=budget.MAX_RETRIES, retry_interval=budget.RETRY_SECONDS, timeout=attempt_seconds
    )


STT_CONNECTION: Final = _connection(budget.STT_ATTEMPT_SECONDS)
LLM_CONNECTION: Final = _connection(budget.LLM_ATTEMPT_SECONDS)
TTS_CONNECTION: Final = _connection(budget.TTS_ATTEMPT_SECONDS)


class ResilientSTT(stages.TimeLimitedSTT):
    """OpenAI's transcription; a failure costs the turn, not the call.

    The SDK stops its stt when a transcription has failed after all retries. By then it has emitted the `error` event,
    so this class returns an empty transcript instead.
    """

    on_started: Callable[[], None] = staticmethod(lambda: None)
    """Called when the caller has stopped speaking, and the transcription starts."""
    on_finished: Callable[[bool], None] = staticmethod(lambda _: None)
    """Called when a transcription has ended, with whether it has text."""

    async def recognize(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = STT_CONNECTION,
    ) -> stt.SpeechEvent:
        event = stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT)
        self.on_started()
        try:
            async with asyncio.timeout(budget.STT_SECONDS):
                event = await super().recognize(buffer, language=language, conn_options=conn_options)
        except APIError:
            pass  # already emitted as an event
        except TimeoutError:
            stages.emit_timeout(self)
        finally:
            self.on_finished(any(alternative.text for alternative in event.alternatives))
        return event


def make_client(voice: VoiceSpec, key: str) -> AsyncOpenAI:
    """Return one client for all stages: they share its connections, and TLS is set up once, before the call."""
    return AsyncOpenAI(
        base_url=voice.openai.base_url,
        api_key=key,
        max_retries=0,
        http_client=DefaultAsyncHttpxClient(event_hooks={"response": [retry_after.remember]}),
        timeout=Timeout(budget.LLM_ATTEMPT_SECONDS),
    )


def make_stages(settings: WorkerSettings) -> "Stages":
    """Return the stages that a worker's configuration declares, with its credentials."""
    declared = settings.config.voice
    return Stages(declared, make_client(declared, settings.openai_key))


class Stages:
    """Makes the stages stt, llm and tts of one agent. Only this class knows their providers."""

    def __init__(self, declared: VoiceSpec, client: AsyncOpenAI) -> None:
        self._declared = declared
        self._client = client

    @property
    def voice_name(self) -> str:
        """The agent's voice, by the provider's name."""
        return self._declared.tts.voice

    @property
    def speech_identity(self) -> str:
        """What decides how a text sounds: two agents with the same identity can share its audio."""
        return "\0".join((self._declared.openai.base_url, self._declared.tts.model, self._declared.tts.voice))

    def fields(self, stage: str) -> dict[str, object]:
        """Return the log fields that tell where the requests of a stage go."""
        return {"stage": stage, "url": self._declared.openai.base_url}

    async def aclose(self) -> None:
        """Close the connections to the providers."""
        await self._client.close()

    def make_stt(self, language: str) -> stt.STT[Any]:
        """Return the stt stage for a language."""
        return ResilientSTT(
            attempt_seconds=budget.STT_ATTEMPT_SECONDS,
            attempts=_attempts(),
            model=self._declared.stt.model,
            language=prompt.primary(language),
            client=no_speech.speech_only(self._client),
            use_realtime=False,
        )

    def make_llm(self) -> llm.LLM[Any]:
        """Return the llm stage."""
        limits = thinking.limits(self._declared.llm.model)
        return stages.ReplyLLM(
            max_tokens=limits.max_tokens,
            effort=limits.effort,
            attempts=_attempts(),
            model=self._declared.llm.model,
            client=self._client,
        )

    def make_tts(self) -> tts.TTS[Any]:
        """Return the tts stage. It requests raw samples, so there is no codec between the provider and the room."""
        return stages.TimeLimitedTTS(
            gap_seconds=budget.TTS_ATTEMPT_SECONDS,
            attempts=_attempts(),
            model=self._declared.tts.model,
            voice=self._declared.tts.voice,
            client=self._client,
            response_format="pcm",
        )


def _attempts() -> stages.Attempts:
    return stages.Attempts(budget.MAX_RETRY_AFTER_SECONDS)


def make_session(
    declared: Stages, language: str, index: "PassageIndex | None" = None, tools: Tools | None = None
) -> sdk.CallSession:
    """Return a session with the declared stages.

    `index`: that of a knowledge base which is too large for the instructions; None: there is none. Every agent of the
    call has the `tools`.
    """
    return sdk.CallSession(
        vad=SpeechDetector(),
        stt=declared.make_stt(language),
        llm=BoundedLLM(declared.make_llm(), index),
        tts=declared.make_tts(),
        tools=tools or [],
        turn_handling=turn_taking.handling(prompt.primary(language)),
        aec_warmup_duration=None,  # it would make the agent deaf for the first 3 s that it speaks
        session_close_transcript_timeout=0.2,
        conn_options=sdk.SessionConnectOptions(
            stt_conn_options=STT_CONNECTION,
            llm_conn_options=LLM_CONNECTION,
            tts_conn_options=TTS_CONNECTION,
            max_unrecoverable_errors=budget.MAX_FAILED_TURNS,
        ),
    )
