"""Ends the call of a silent caller: the agent asks once, then says goodbye.

`Silence` decides, from what the session reports; it is pure. `IdleCaller` waits and speaks.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from livekit.agents.voice import AgentSession, AgentStateChangedEvent, UserStateChangedEvent

from agentspec import ConversationSpec
from agentspec.wire import CallOutcome
from worker.call import budget
from worker.call.prepared_speech import PreparedSpeech
from worker.call.sentences import Sentences

logger = logging.getLogger(__name__)

_BUSY_STATES: Final = ("thinking", "speaking")


@dataclass
class Silence:
    """The silence of both sides. Times are seconds of any clock that never goes back."""

    ask_after: float
    hang_up_after: float
    """Counts from the end of the question."""
    since: float
    """Start of the silence; in the future while an answer is pending."""
    asked: bool = False
    """The agent has asked, and the caller has not spoken since."""
    caller_speaks: bool = False
    agent_is_busy: bool = False
    """The agent speaks, or thinks about an answer."""

    def on_caller(self, speaks: bool, now: float) -> None:
        """Note that the caller began or stopped to speak."""
        if speaks:
            self.asked = False
        elif self.caller_speaks:
            self.since = now + budget.IDLE_ANSWER_SECONDS
        self.caller_speaks = speaks

    def on_agent(self, busy: bool, now: float) -> None:
        """Note that the agent became busy, or has finished."""
        if self.agent_is_busy and not busy:
            self.since = now
        self.agent_is_busy = busy

    def on_asked(self, now: float) -> None:
        """Note that the agent asks whether the caller is still there."""
        self.asked, self.since = True, now

    def ends_at(self) -> float | None:
        """Return when the silence has lasted too long; None while one side is not silent."""
        if self.caller_speaks or self.agent_is_busy:
            return None
        return self.since + (self.hang_up_after if self.asked else self.ask_after)


class IdleCaller:
    """Asks a silent caller once, then ends the call."""

    def __init__(
        self,
        session: AgentSession[None],
        spec: ConversationSpec,
        sentences: Sentences,
        speech: PreparedSpeech,
        end_call: Callable[[CallOutcome, str], None],
    ) -> None:
        self._session = session
        self._spec = spec
        self._sentences = sentences
        self._speech = speech
        self._end_call = end_call
        self._changed = asyncio.Event()
        self._silence = Silence(spec.idle_prompt_seconds, spec.idle_hang_up_seconds, since=0.0)

    async def run(self) -> None:
        """Follow the call from now on, and return when it has ended. Does nothing when `idlePromptSeconds` is 0."""
        if not self._spec.idle_prompt_seconds:
            return
        self._silence.since = _now()
        self._silence.caller_speaks = self._session.user_state == "speaking"
        self._silence.agent_is_busy = self._session.agent_state in _BUSY_STATES
        self._session.on("user_state_changed", self._on_user_state)
        self._session.on("agent_state_changed", self._on_agent_state)
        try:
            while True:
                await self._wait_for_silence()
                if not self._silence.asked:
                    await self._ask()
                elif await self._say_goodbye():
                    self._end_call(CallOutcome.CALLER_IDLE, "the caller was silent for too long")
                    return
        finally:
            self._session.off("user_state_changed", self._on_user_state)
            self._session.off("agent_state_changed", self._on_agent_state)

    async def _ask(self) -> None:
        logger.info("asking the silent caller", extra={"seconds": self._spec.idle_prompt_seconds})
        self._silence.on_asked(_now())  # first: the caller may answer while the agent asks
        await self._speech.say(self._sentences.still_there, allow_interruptions=True)

    async def _say_goodbye(self) -> bool:
        """Say goodbye; returns False when the caller spoke meanwhile, so that the call continues."""
        await self._speech.say(self._sentences.goodbye, allow_interruptions=True)
        return self._silence.asked

    async def _wait_for_silence(self) -> None:
        """Wait until the silence has lasted too long."""
        while (ends_at := self._silence.ends_at()) is None or ends_at > _now():
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), None if ends_at is None else ends_at - _now())
            except TimeoutError:
                continue

    def _on_user_state(self, event: UserStateChangedEvent) -> None:
        self._silence.on_caller(event.new_state == "speaking", _now())
        self._changed.set()

    def _on_agent_state(self, event: AgentStateChangedEvent) -> None:
        self._silence.on_agent(event.new_state in _BUSY_STATES, _now())
        self._changed.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
