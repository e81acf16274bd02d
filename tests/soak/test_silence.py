"""What callers hear when a provider misbehaves: each stage, each kind of fault, by voice and with an avatar.

The run prints a table: when the first sound and the reply or apology began after the caller's last word, and the
longest silence until then.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import numpy as np
import pytest

from devkit.demo.caller import Caller, CallError
from devkit.demo.conversation import VOICE
from devkit.demo.utterances import AUDIBLE, Samples
from devkit.providers.speech import similarity, speak
from tests.e2e import agents
from tests.e2e.callers import FACT, QUESTION, greeted
from tests.e2e.conftest import Platform
from worker.call.budget import ANSWER_SECONDS, FIRST_SOUND_SECONDS
from worker.call.sentences import for_language

STAGES = {"stt": "transcriptions", "llm": "chat", "tts": "speech"}
KINDS = ("500", "stall", "half_close", "empty", "half_stall")
ALIKE = 0.4
"""Similarity from which a caption is the sentence."""
PATIENCE_SECONDS = 20.0
"""How long the caller listens after the last word."""
ALLOWANCE_SECONDS = 0.5
"""Detection of speech and of sound on two cores that also run the node and whisper: a healthy turn shows as much."""
AVATAR_ALLOWANCE_SECONDS = 1.0
"""An avatar receives the audio before it plays it."""

pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Turn:
    """What the caller heard after the last word, in seconds from it."""

    stage: str
    kind: str
    avatar: bool
    sounds: tuple[tuple[float, float], ...]
    """Begin and end of each stretch of sound."""
    answer: float
    """When the reply or the apology began."""
    apologised: bool

    @property
    def first_sound(self) -> float:
        return self.sounds[0][0] if self.sounds else PATIENCE_SECONDS

    @property
    def longest_silence(self) -> float:
        begins = [begin for begin, _ in self.sounds] or [PATIENCE_SECONDS]
        ends = [0.0, *(end for _, end in self.sounds)]
        return max(begin - end for end, begin in zip(ends, begins, strict=False))

    def __str__(self) -> str:
        output = "avatar" if self.avatar else "voice"
        figures = f"{self.first_sound:6.2f} {self.answer:6.2f} {self.longest_silence:6.2f}"
        return f"{self.stage:4} {self.kind:11} {output:7} {figures}  {'apology' if self.apologised else 'reply'}"


def question() -> Samples:
    """Return the question without the silence after it, so that its end is the last word."""
    samples = speak(QUESTION, VOICE)
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) >= AUDIBLE)
    return samples[: loud[-1] + 1]


def set_faults(platform: Platform, faults: Sequence[Mapping[str, object]]) -> None:
    """Replace the faults of the simulated OpenAI."""
    url = platform.targets.openai_url.removesuffix("/v1") + "/_simulator"
    body = json.dumps({"faults": faults}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, method="PUT"), timeout=10) as answer:
        assert answer.status == 200


async def listen(caller: Caller, since: int) -> bool:
    """Listen until the reply or the apology has ended, or the patience; return whether it was an apology."""
    apology = for_language("ar").apology
    while (left := caller.last_word + PATIENCE_SECONDS - time.monotonic()) > 0:
        with suppress(CallError):
            utterance = await caller.hear(left, after=caller.last_word)
            if len(caller.captions) > since and utterance.end > caller.captioned[-1]:
                if similarity(caller.captions[-1], apology) > ALIKE:
                    return True
                if similarity(caller.captions[-1], FACT) > ALIKE:
                    return False
    return False


async def take_turn(platform: Platform, caller: Caller, stage: str, kind: str, *, avatar: bool) -> Turn:
    """Ask the question while the fault lasts; without a stage, while all providers are healthy."""
    faults = [{"kind": kind, "endpoints": [STAGES[stage]]}] if stage else []
    since = len(caller.captions)
    await asyncio.to_thread(set_faults, platform, faults)
    try:
        await caller.say(await asyncio.to_thread(question))
        apologised = await listen(caller, since)
    finally:
        await asyncio.to_thread(set_faults, platform, [])
    asked = caller.last_word
    sounds = tuple((begin - asked, end - asked) for begin, end in caller.sounds if begin > asked)
    answers = [began - asked for began in caller.captioned[since:]] or [PATIENCE_SECONDS]
    return Turn(stage or "-", kind or "healthy", avatar, sounds, answers[0], apologised)


async def table(platform: Platform, agent: str, *, avatar: bool) -> list[Turn]:
    """Return one turn for each stage and kind: a call for each stage, whose first turn is a healthy one."""
    turns: list[Turn] = []
    for stage in STAGES:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, agent, stage)
            if avatar:
                await caller.see(3, 30)
            for kind in ("", *KINDS):
                turns.append(await take_turn(platform, caller, stage if kind else "", kind, avatar=avatar))
                print(turns[-1], flush=True)
                await asyncio.sleep(1.0)
    return turns


@pytest.mark.allows_errors(
    "provider failed", "Error in _llm_inference_task", "Error in _tts_inference_task", "TTS failed after partial audio"
)
@pytest.mark.parametrize("avatar", [False, True], ids=["voice", "avatar"])
def test_no_caller_waits_in_silence(platform: Platform, avatar: bool) -> None:
    agent = agents.manifest(platform.targets, "silence", avatar=avatar, conversation={"idlePromptSeconds": 0})
    with agents.declared(platform.product, agent) as name:
        turns = asyncio.run(table(platform, name, avatar=avatar))
    allowance = ALLOWANCE_SECONDS + (AVATAR_ALLOWANCE_SECONDS if avatar else 0.0)
    late = [str(turn) for turn in turns if turn.first_sound > FIRST_SOUND_SECONDS + allowance]
    assert late == [], "the first sound is late"
    # A reply that stops half-way has begun in time, so only its silence counts.
    whole = [turn for turn in turns if turn.kind != "half_stall" or turn.stage == "stt"]
    unanswered = [str(turn) for turn in whole if turn.answer > ANSWER_SECONDS + allowance]
    assert unanswered == [], "the reply or the apology is late"
    silent = [str(turn) for turn in turns if turn.longest_silence > FIRST_SOUND_SECONDS + allowance]
    assert silent == [], "a silence is too long"
    assert [str(turn) for turn in turns if turn.kind == "healthy" and turn.apologised] == []
    assert [str(turn) for turn in turns if turn.kind != "healthy" and not turn.apologised] == []
