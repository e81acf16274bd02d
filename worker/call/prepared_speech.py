"""Says prepared sentences (`worker.call.sentences`) in a call, in bounded time."""

import asyncio
import logging

from livekit.agents.voice import AgentSession
from openai import AsyncOpenAI

from agentspec import VoiceSpec
from worker.call import budget, phrases

logger = logging.getLogger(__name__)


class PreparedSpeech:
    """The prepared sentences of one call. They are part of the conversation, so the model knows of them."""

    def __init__(self, session: AgentSession[None], declared: VoiceSpec, client: AsyncOpenAI) -> None:
        self._session = session
        self._declared = declared
        self._client = client

    async def say(self, text: str, *, allow_interruptions: bool) -> None:
        """Say a sentence, and return when it has played or was interrupted. Without its audio, nothing is said."""
        try:
            async with asyncio.timeout(budget.SAY_SECONDS):
                audio = await phrases.audio(text, self._declared, self._client)
                if audio is None:
                    return
                speech = self._session.say(text, audio=phrases.frames(audio), allow_interruptions=allow_interruptions)
                await speech.wait_for_playout()
        except TimeoutError:
            logger.warning("prepared sentence did not play in time", extra={"seconds": budget.SAY_SECONDS})
