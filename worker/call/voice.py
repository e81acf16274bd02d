"""The stages stt, llm and tts with the OpenAI plugin, and turn detection with models that run locally.

The package livekit-local-inference contains the models for voice activity (silero) and end of turn
(turn-detector-v1-mini), so nothing is downloaded. The end-of-turn model knows fourteen languages, Arabic among them.
For any other language, silence ends the turn.
"""

from typing import Final

from livekit.agents import (
    NOT_GIVEN,
    APIConnectOptions,
    APIError,
    NotGivenOr,
    inference,
    stt,
    utils,
)
from livekit.agents.voice import AgentSession
from livekit.plugins import openai
from openai import AsyncOpenAI, Timeout

from agentspec import VoiceSpec
from agentspec.wire import DispatchMetadata, WorkerConfig
from worker import sdk
from worker.call import budget, no_speech, prompt
from worker.call.conversation import ConversationAgent, index_of

STT_CONNECTION: Final = APIConnectOptions(max_retry=1, retry_interval=0.3, timeout=5.0)
LLM_CONNECTION: Final = APIConnectOptions(max_retry=2, retry_interval=0.5, timeout=8.0)
TTS_CONNECTION: Final = APIConnectOptions(max_retry=2, retry_interval=0.5, timeout=8.0)


class ResilientSTT(sdk.TimeLimitedSTT):
    """OpenAI's transcription; a failure costs the turn, not the call.

    The SDK stops its stt when a transcription has failed after all retries. By then it has emitted the `error` event,
    so this class returns an empty transcript instead.
    """

    async def recognize(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = STT_CONNECTION,
    ) -> stt.SpeechEvent:
        try:
            return await super().recognize(buffer, language=language, conn_options=conn_options)
        except APIError:
            return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT)


def make_client(voice: VoiceSpec, key: str) -> AsyncOpenAI:
    """Return one client for all stages: they share its connections, and TLS is set up once, before the call."""
    return AsyncOpenAI(
        base_url=voice.openai.base_url,
        api_key=key,
        max_retries=0,
        timeout=Timeout(connect=5.0, read=8.0, write=5.0, pool=5.0),
    )


def make_tts(voice: VoiceSpec, client: AsyncOpenAI) -> openai.TTS:
    """Return the tts stage. It requests raw samples, so there is no codec between the provider and the room."""
    return openai.TTS(model=voice.tts.model, voice=voice.tts.voice, client=client, response_format="pcm")


def make_stt(voice: VoiceSpec, language: str, client: AsyncOpenAI) -> ResilientSTT:
    """Return the stt stage."""
    return ResilientSTT(
        attempt_seconds=budget.STT_ATTEMPT_SECONDS,
        model=voice.stt.model,
        language=prompt.primary(language),
        client=no_speech.speech_only(client),
        use_realtime=False,
    )


def make_llm(voice: VoiceSpec, client: AsyncOpenAI) -> openai.LLM:
    """Return the llm stage."""
    return openai.LLM(model=voice.llm.model, client=client, max_completion_tokens=400)


def make_agent(config: WorkerConfig, call: DispatchMetadata) -> ConversationAgent:
    """Return the agent as declared. Facts about the call are a message of the lowest rank, the user's."""
    return ConversationAgent(prompt.instructions(config), prompt.facts(call, config.language), index_of(config))


def make_session(voice: VoiceSpec, language: str, client: AsyncOpenAI) -> AgentSession[None]:
    """Return a session with the declared stages."""
    by_model = sdk.has_local_turn_detection(prompt.primary(language))
    return AgentSession(
        vad=inference.VAD(),
        stt=make_stt(voice, language, client),
        llm=make_llm(voice, client),
        tts=make_tts(voice, client),
        turn_handling={
            "turn_detection": inference.TurnDetector(version="v1-mini") if by_model else "vad",
            "interruption": {"mode": "vad"},
        },
        session_close_transcript_timeout=0.2,
        conn_options=sdk.SessionConnectOptions(
            stt_conn_options=STT_CONNECTION,
            llm_conn_options=LLM_CONNECTION,
            tts_conn_options=TTS_CONNECTION,
            max_unrecoverable_errors=budget.MAX_FAILED_TURNS,
        ),
    )
