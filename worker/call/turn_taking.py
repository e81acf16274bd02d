"""When the agent may speak: end of the caller's turn, interruptions, and the protected beginning of the greeting.

All values were chosen from a curve of waiting against cut-ins: docs/concepts/turn-taking.md shows it,
`tests/bench/test_turn_taking.py` measures it.
"""

import asyncio
from typing import Final

from livekit.agents import EndpointingOptions, InterruptionOptions, TurnHandlingOptions, inference
from livekit.agents.voice import AgentSession, SpeechHandle

from worker import sdk

MIN_DELAY: Final = 0.45
"""Seconds from the caller's last word to the end of the turn, when the model takes the turn for complete.

The SDK's default, 0.3 s, answers people in 89 % of their pauses inside a turn, this delay in 1 %. A provider whose
transcript takes longer than the delay answers as soon with both.
"""
MAX_DELAY: Final = 0.9
"""The same, when the model takes the turn for unfinished: the answer then comes 1.17 s after the last word.

The model takes 97 % of espeak-ng's complete Arabic sentences for unfinished ones, and up to a quarter of people's. So
this delay bounds their waiting. The SDK's default is 2.5 s.
"""
SILENCE_DELAY: Final = 0.5
"""The same in languages that the model does not know, where silence alone ends the turn. The SDK's default."""

INTERRUPT_SECONDS: Final = 0.1
"""Length of the caller's speech that stops the agent; the SDK's default is 0.5 s.

Detecting speech adds 0.06 s, and the room's output stops at its next frame, at most 0.05 s later.
"""
RESUME_SECONDS: Final = 1.5
"""How long the agent waits for words after the sound that stopped it, before it resumes.

Shorter, it would resume before the transcript of real words is there. Longer, a sound of 0.7 s would silence it for
more than 3 s.
"""
PROTECTED_GREETING_SECONDS: Final = 5.0
"""How much of the greeting no caller can interrupt. Callers say "hello?" when a call connects, and mean no answer."""


def handling(language: str) -> TurnHandlingOptions:
    """Return the session's options for a primary language subtag."""
    interruption = InterruptionOptions(
        mode="vad",
        min_duration=INTERRUPT_SECONDS,
        resume_false_interruption=True,
        false_interruption_timeout=RESUME_SECONDS,
    )
    if not sdk.has_local_turn_detection(language):
        endpointing = EndpointingOptions(min_delay=SILENCE_DELAY, max_delay=SILENCE_DELAY)
        return TurnHandlingOptions(turn_detection="vad", endpointing=endpointing, interruption=interruption)
    return TurnHandlingOptions(
        turn_detection=inference.TurnDetector(version="v1-mini"),
        endpointing=EndpointingOptions(min_delay=MIN_DELAY, max_delay=MAX_DELAY),
        interruption=interruption,
    )


def ignore_caller(session: AgentSession[None]) -> None:
    """Ignore what the caller says before the greeting, so that no answer precedes it."""
    session.input.set_audio_enabled(False)


async def finish_greeting(session: AgentSession[None], greeting: SpeechHandle) -> None:
    """Listen to the caller from now on, and return when the greeting has ended.

    The greeting must have been started with `allow_interruptions=False`. Until `PROTECTED_GREETING_SECONDS` have
    passed, the session hears silence (its option `discard_audio_if_uninterruptible`). Later, words interrupt it.
    """
    session.input.set_audio_enabled(True)
    playout = asyncio.ensure_future(greeting.wait_for_playout())
    try:
        await asyncio.wait({playout}, timeout=PROTECTED_GREETING_SECONDS)
        greeting.allow_interruptions = True
        await playout
    finally:
        playout.cancel()
