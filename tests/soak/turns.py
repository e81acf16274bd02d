"""Turns of a call as the caller hears them: the question, and every sound and silence until the reply has ended."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from devkit.demo.caller import Caller
from devkit.demo.conversation import VOICE
from devkit.demo.utterances import AUDIBLE, Samples
from devkit.providers.speech import similarity, speak
from tests.e2e.conftest import Platform
from tests.e2e.simulators import put_settings
from tests.waiting import eventually
from worker.call.budget import ANSWER_SECONDS, FIRST_SOUND_SECONDS
from worker.call.sentences import for_language

STAGES = {"stt": "transcriptions", "llm": "chat", "tts": "speech"}
"""Endpoint of the simulated OpenAI, by stage."""
ALIKE = 0.4
"""Similarity from which a caption is the sentence."""
PATIENCE_SECONDS = 20.0
"""How long the caller listens after the last word."""
ALLOWANCE_SECONDS = 0.5
"""Detection of speech and of sound on two cores that also run the node and whisper: a healthy turn shows as much."""


class Said(StrEnum):
    """What the agent said at last."""

    REPLY = "reply"
    APOLOGY = "apology"
    OTHER = "other"
    """Neither, within the caller's patience."""


@dataclass(frozen=True)
class Question:
    """What the caller asks, the fact that answers it, and the language of both."""

    text: str
    fact: str
    language: str


@dataclass(frozen=True)
class Turn:
    """What the caller heard after the last word, in seconds from it."""

    sounds: tuple[tuple[float, float], ...]
    """Begin and end of each stretch of sound."""
    answer: float
    """When the reply or the apology began."""
    said: Said

    @property
    def first_sound(self) -> float:
        return self.sounds[0][0] if self.sounds else PATIENCE_SECONDS

    @property
    def longest_silence(self) -> float:
        begins = [begin for begin, _ in self.sounds] or [PATIENCE_SECONDS]
        ends = [0.0, *(end for _, end in self.sounds)]
        return max(begin - end for end, begin in zip(ends, begins, strict=False))

    def __str__(self) -> str:
        return f"{self.first_sound:6.2f} {self.answer:6.2f} {self.longest_silence:6.2f}  {self.said}"

    def is_silent(self, allowance: float = ALLOWANCE_SECONDS) -> bool:
        """Whether the first sound was late, or a silence before the end of the reply was too long."""
        return max(self.first_sound, self.longest_silence) > FIRST_SOUND_SECONDS + allowance

    def is_late(self, allowance: float = ALLOWANCE_SECONDS) -> bool:
        """Whether the reply or the apology was late."""
        return self.answer > ANSWER_SECONDS + allowance


def spoken(text: str) -> Samples:
    """Return a sentence of the caller without the silence after it, so that its end is the last word."""
    samples = speak(text, VOICE)
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) >= AUDIBLE)
    return samples[: loud[-1] + 1]


def stalled(stage: str) -> dict[str, object]:
    """Return the fault of a stage that accepts requests and never answers."""
    return {"kind": "stall", "endpoints": [STAGES[stage]]}


async def take_turn(
    platform: Platform, caller: Caller, question: Question, faults: Sequence[Mapping[str, object]] = ()
) -> Turn:
    """Ask the question while the faults last, and listen to the end of the reply."""
    since = len(caller.captions)
    samples = await asyncio.to_thread(spoken, question.text)
    await asyncio.to_thread(put_settings, platform.targets.openai_url, {"faults": [*faults]})
    try:
        await caller.say(samples)
        said = await _listen(caller, since, question)
    finally:
        await asyncio.to_thread(put_settings, platform.targets.openai_url, {})
    asked = caller.last_word
    sounds = tuple((begin - asked, end - asked) for begin, end in caller.sounds if begin > asked)
    answers = [began - asked for began in caller.captioned[since:]] or [PATIENCE_SECONDS]
    return Turn(sounds, answers[0], said)


async def _listen(caller: Caller, since: int, question: Question) -> Said:
    """Listen until the reply or the apology has ended, or the patience."""
    sentences = {Said.APOLOGY: for_language(question.language).apology, Said.REPLY: question.fact}

    async def said() -> Said | None:
        if len(caller.captions) <= since or caller.is_hearing or caller.last_sound <= caller.captioned[-1]:
            return None
        caption = caller.captions[-1]
        return next((said for said, text in sentences.items() if similarity(caption, text) > ALIKE), None)

    try:
        left = caller.last_word + PATIENCE_SECONDS - time.monotonic()
        return await eventually(said, "the reply or the apology has ended", left) or Said.OTHER
    except AssertionError:
        return Said.OTHER
