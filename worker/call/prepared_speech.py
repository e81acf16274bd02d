"""Says prepared sentences (`worker.call.sentences`) in a call, in bounded time."""

import asyncio
import logging
from typing import Final

from livekit.agents.voice import AgentSession
from openai import AsyncOpenAI

from agentspec import VoiceSpec
from worker.call import phrases

logger = logging.getLogger(__name__)

SAY_SECONDS: Final = 15.0
"""Longest duration of one sentence, with its preparation, and with a speech that has to end first. The prepared
sentences last 2 to 4 s."""


class PreparedSpeech:
    """The prepared sentences of one call. They are part of the conversation, so the model knows of them."""

    def __init__(self, session: AgentSession[None], declared: VoiceSpec, client: AsyncOpenAI) -> None:
        self._session = session
        self._declared = declared
        self._client = client

    async def say(self, text: str, *, allow_interruptions: bool) -> None:
        """Say a sentence, and return when it has played or was interrupted. Without its audio, nothing is said."""
        try:
            async with asyncio.timeout(SAY_SECONDS):
                audio = await phrases.audio(text, self._declared, self._client)
                if audio is None:
                    return
                speech = self._session.say(text, audio=phrases.frames(audio), allow_interruptions=allow_interruptions)
                await speech.wait_for_playout()
        except TimeoutError:
            logger.warning("prepared sentence did not play in time", extra={"seconds": SAY_SECONDS})
