"""The demo's conversation: a caller hears the greeting, asks aloud, hears the answer and sees a moving face."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from devkit.demo.caller import Caller, CallError, Moments, Picture, call
from devkit.demo.ear import Utterance
from devkit.providers.speech import Recogniser, Transcript, similarity, speak

VOICE = "onyx"
"""The caller's voice: of the synthesiser's, one that Whisper *base* understands in Arabic."""
ANSWER_SECONDS = 40.0
"""Bound of every wait for speech: real providers take 2 to 5 s, recognition on two busy cores longer."""


@dataclass(frozen=True)
class Entry:
    """One entry of the knowledge base: its heading and what is known."""

    heading: str
    text: str


def entries(markdown: str) -> list[Entry]:
    """The entries of a knowledge text: a `##` heading, then its lines."""
    blocks = [block.strip() for block in markdown.split("## ") if block.strip()]
    return [Entry(heading, " ".join(rest.split())) for heading, _, rest in (b.partition("\n") for b in blocks)]


@dataclass(frozen=True)
class Conversation:
    """What came of a call."""

    moments: Moments
    asked: float
    answered: float
    greeting: Transcript
    answer: Transcript
    caption: str
    """The answer as the agent's own transcription has it."""
    pictures: list[Picture]


async def converse(
    gateway: str, agent: str, question: str, recogniser: Recogniser, *, video: bool, note: Callable[[str], None]
) -> Conversation:
    """Hold the conversation. Raises `CallError` naming the step that did not happen."""
    async with await call(gateway, agent, "Demo caller") as caller:
        await caller.agent_joined(15)
        note("the agent is in the room")
        await caller.first_word(20)
        greeting = await _transcript(await caller.hear(ANSWER_SECONDS), recogniser)
        note(f"greeting heard: {greeting.text}")
        # A face that comes late takes over from the voice at a pause: ask once it is there.
        pictures = await caller.see(3, 20) if video else []
        said_before = len(caller.captions)
        asked = await _ask(caller, question)
        note(f"asked aloud: {question}")
        utterance = await caller.hear(ANSWER_SECONDS)
        answer = await _transcript(utterance, recogniser)
        note(f"answer heard: {answer.text}")
        if video:
            pictures = await caller.see(max(6, len(pictures)), 10)
        caption = " ".join(caller.captions[said_before:])
        return Conversation(caller.moments, asked, utterance.start, greeting, answer, caption, pictures)


async def _ask(caller: Caller, question: str) -> float:
    """Say the question; returns when its last sound was spoken."""
    await caller.say(await asyncio.to_thread(speak, question, VOICE))
    return time.monotonic()


async def _transcript(utterance: Utterance, recogniser: Recogniser) -> Transcript:
    return await asyncio.to_thread(recogniser.transcribe, utterance.samples, utterance.rate, "ar")


def check_greeting(heard: Transcript, greeting: str) -> None:
    """The greeting came out as declared, in Arabic script."""
    letters = [c for c in heard.text if c.isalpha()]
    arabic = [c for c in letters if "\u0600" <= c <= "\u06ff"]
    if not letters or len(arabic) < 0.8 * len(letters):
        raise CallError(f"the greeting was not recognised as Arabic: {heard.text!r}")
    if similarity(heard.text, greeting) < 0.2:
        raise CallError(f"what was heard is not the greeting: {heard.text!r}")


def check_answer(heard: Transcript, caption: str, asked: Entry, knowledge: list[Entry]) -> None:
    """The agent said the fact asked for, by its own word and by what was heard.

    Whisper *base* hears a synthesiser's Arabic badly: it need only have heard something more like this fact than like
    any other in the knowledge base.
    """
    if (told := _nearest(caption, knowledge)) != asked or similarity(caption, asked.text) < 0.5:
        raise CallError(f"the agent did not give the fact asked for but {caption!r}, most like {told.heading!r}")
    if (sounded := _nearest(heard.text, knowledge)) != asked:
        raise CallError(f"what was heard is not the answer but most like {sounded.heading!r}: {heard.text!r}")


def _nearest(text: str, knowledge: list[Entry]) -> Entry:
    return max(knowledge, key=lambda entry: similarity(text, entry.text))


def check_pictures(pictures: list[Picture]) -> None:
    """The picture moves: frames differ from each other by more than coding noise, and none is blank."""
    if any(float(picture.std()) < 5 for picture in pictures):
        raise CallError("the avatar's picture is blank")
    moved = [
        float(np.mean(np.abs(a.astype(np.int16) - b.astype(np.int16)) > 24))
        for a, b in itertools.pairwise(pictures)
        if a.shape == b.shape
    ]
    if not moved or max(moved) < 0.001:
        raise CallError("the avatar's picture stands still")


def timeline(conversation: Conversation) -> list[tuple[str, float]]:
    """Seconds from the request to each step, in the order they happened."""
    m = conversation.moments
    steps = [
        ("request sent", m.requested),
        ("room created, agent dispatched", m.dispatched),
        ("caller connected", m.connected),
        ("agent joined", m.joined),
        ("first audible word", m.first_word),
        ("first video frame", m.first_picture),
        ("question asked", conversation.asked),
        ("answer begins", conversation.answered),
    ]
    return sorted(((name, moment - m.requested) for name, moment in steps if moment), key=lambda step: step[1])
