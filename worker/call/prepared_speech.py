"""Says prepared sentences (`worker.call.sentences`) in a call, in bounded time."""

import asyncio
import logging

from livekit.agents.voice import AgentSession

from worker.call import budget, phrases
from worker.call.voice import Stages

logger = logging.getLogger(__name__)


class PreparedSpeech:
    """The prepared sentences of one call. They are part of the conversation, so the model knows of them."""

    def __init__(self, session: AgentSession[None], stages: Stages, language: str) -> None:
        self._session = session
        self._stages = stages
        self._language = language

    async def say(self, text: str, *, allow_interruptions: bool) -> None:
        """Say a sentence, and return when it has played or was interrupted. Without its audio, nothing is said."""
        try:
            async with asyncio.timeout(budget.SAY_SECONDS):
                audio = await phrases.audio(text, self._language, self._stages)
                if audio is None:
                    return
                speech = self._session.say(text, audio=phrases.frames(audio), allow_interruptions=allow_interruptions)
                await speech.wait_for_playout()
        except TimeoutError:
            logger.warning("prepared sentence did not play in time", extra={"seconds": budget.SAY_SECONDS})
