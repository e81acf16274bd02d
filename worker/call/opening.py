"""What the agent says first: the greeting, or in a rescue that the line was interrupted.

In a rescue, the agent then answers the question that the lost agent left open.
"""

import asyncio
import logging
from collections.abc import Sequence

from livekit import rtc
from livekit.agents import NOT_GIVEN, Agent
from livekit.agents.voice import AgentSession

from agentspec.wire import Speaker, Turn, WorkerConfig
from worker.call import budget, conversation, phrases, sentences, turn_taking
from worker.call.voice import Stages

logger = logging.getLogger(__name__)


class Opening:
    """The first words of one call."""

    def __init__(self, session: AgentSession[None], config: WorkerConfig) -> None:
        self._session = session
        self._config = config
        self._audio: asyncio.Task[rtc.AudioFrame | None] | None = None
        self._has_open_question = False
        """The caller's last question has no answer, because the agent was lost."""
        self._is_answering = False
        """The answer to that question has begun."""
        self.text = config.greeting
        """Empty: the agent waits for the caller to speak."""
        self.is_rescue = False
        """This agent continues the conversation of a lost one."""

    async def resume(self, agent: Agent, turns: Sequence[Turn]) -> None:
        """Continue the conversation of a lost agent; without turns there was none."""
        if not turns:
            return
        await conversation.resume(agent, turns)
        self.is_rescue = True
        self.text = sentences.for_language(self._config.language).line_interrupted
        self._has_open_question = turns[-1].speaker is Speaker.CALLER
        logger.info("conversation resumed", extra={"turns": len(turns)})

    def prepare(self, stages: Stages) -> None:
        """Start to read the audio, before the caller arrives."""
        if self.text:
            self._audio = asyncio.create_task(phrases.audio(self.text, self._config.language, stages))

    async def say(self) -> None:
        """Say the prepared opening, and return when it has played or was interrupted."""
        if self._audio is None:
            return
        await asyncio.wait({self._audio}, timeout=budget.GREETING_SECONDS)
        audio = self._audio.result() if self._audio.done() else None
        if audio is None:
            self._audio.cancel()
            logger.warning("greeting audio was not ready, synthesising it now")
        speech = self._session.say(
            self.text,
            audio=phrases.frames(audio) if audio else NOT_GIVEN,
            allow_interruptions=False,
            add_to_chat_ctx=not self._has_open_question,  # the model answers the last message
        )
        await turn_taking.finish_greeting(self._session, speech)
        # A caller who speaks gets one reply to both questions.
        if self._has_open_question and not self._caller_has_spoken() and self._session.user_state != "speaking":
            self._is_answering = True
            _ = self._session.generate_reply()

    def repeat(self) -> None:
        """Say the last thing again, which the caller did not hear: the answer, or else the opening."""
        if self._is_answering or self._caller_has_spoken():
            _ = self._session.generate_reply()
        elif self.text:
            _ = self._session.say(self.text)

    def _caller_has_spoken(self) -> bool:
        """Return whether the caller has said something to this agent."""
        return any(item.type == "message" and item.role == "user" for item in self._session.history.items)
