"""Ends a call at `maxCallMinutes`: announced a minute before, and with a goodbye."""

import asyncio
from collections.abc import Callable
from typing import Final

from livekit.agents.voice import AgentSession

from agentspec.wire import CallOutcome, WorkerConfig
from worker.call.prepared_speech import PreparedSpeech
from worker.call.sentences import Sentences

ANNOUNCED_SECONDS: Final = 60.0
"""Time between the announcement and the end: what the sentence says."""


class CallLength:
    """The longest duration of a call."""

    def __init__(
        self,
        session: AgentSession[None],
        config: WorkerConfig,
        sentences: Sentences,
        speech: PreparedSpeech,
        end_call: Callable[[CallOutcome, str], None],
    ) -> None:
        self._session = session
        self._max_minutes = config.max_call_minutes
        self._announces = config.conversation.announce_end
        self._sentences = sentences
        self._speech = speech
        self._end_call = end_call

    async def enforce(self) -> None:
        """Wait for the end of the longest call, which began now, and end the call."""
        seconds = self._max_minutes * 60.0
        ends_at = _now() + seconds
        if self._announces and seconds > ANNOUNCED_SECONDS:
            await asyncio.sleep(seconds - ANNOUNCED_SECONDS)
            await self._speech.say(self._sentences.one_minute_left, allow_interruptions=False)
        await asyncio.sleep(ends_at - _now())
        if self._announces:
            _ = self._session.interrupt(force=True)  # the goodbye must not wait for a long answer
            await self._speech.say(self._sentences.goodbye, allow_interruptions=False)
        self._end_call(CallOutcome.MAX_LENGTH, f"the call reached maxCallMinutes ({self._max_minutes})")


def _now() -> float:
    return asyncio.get_running_loop().time()
