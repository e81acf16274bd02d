"""The demo's conversation: a caller hears the greeting, asks a question, hears the answer and sees the avatar move."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from devkit.demo.caller import Caller, CallError, Moments, VideoFrame, call
from devkit.demo.utterances import Utterance
from devkit.providers.speech import Recogniser, Transcript, similarity, speak

VOICE = "echo"
"""The caller's voice: the one that Whisper *base* recognises best in Arabic, also with gaps and pauses in the sound."""
SAME = 0.5
"""Similarity from which a caption counts as the expected text: real models may change some words."""
ANSWER_SECONDS = 40.0
"""Timeout of every wait for speech: real providers take 2 to 5 s, recognition on two busy cores longer."""


@dataclass(frozen=True)
class Entry:
    """An entry of the knowledge base: a heading and its text."""

    heading: str
    text: str


def entries(markdown: str) -> list[Entry]:
    """Return the entries of a knowledge text: each is a `##` heading and its lines."""
    blocks = [block.strip() for block in markdown.split("## ") if block.strip()]
    return [Entry(heading, " ".join(rest.split())) for heading, _, rest in (b.partition("\n") for b in blocks)]


@dataclass(frozen=True)
class Said:
    """Something that the agent said: as it was heard, and in the agent's own transcription."""

    utterance: Utterance
    heard: Transcript
    caption: str


@dataclass(frozen=True)
class Conversation:
    """The result of a call."""

    moments: Moments
    greeting: Said
    asked: float
    answer: Said
    video_frames: list[VideoFrame]


async def converse(
    gateway: str, agent: str, question: str, recogniser: Recogniser, *, video: bool, note: Callable[[str], None]
) -> Conversation:
    """Hold the conversation. Raises `CallError` that names the failed step."""
    async with await call(gateway, agent, "Demo caller") as caller:
        await caller.agent_joined(30)
        note("the agent has joined the room")
        await caller.first_word(ANSWER_SECONDS)
        first = await caller.hear(ANSWER_SECONDS)
        greeting = Said(first, await _transcript(first, recogniser), " ".join(caller.captions))
        note(f"greeting heard: {greeting.heard.text}")
        # A late avatar takes over from the voice at a pause: ask once it is shown.
        video_frames = await caller.see(3, 20) if video else []
        note(f"asking aloud: {question}")
        asked, utterance, caption = await ask(caller, question)
        answer = Said(utterance, await _transcript(utterance, recogniser), caption)
        note(f"answer heard: {answer.heard.text}")
        if video:
            video_frames = await caller.see(max(6, len(video_frames)), 10)
        return Conversation(caller.moments, greeting, asked, answer, video_frames)


async def ask(caller: Caller, question: str) -> tuple[float, Utterance, str]:
    """Ask a question and hear the whole answer. Returns the end of the question, the answer, and its caption.

    A prepared "one moment" has no caption. When it ends long before the answer begins, it is not the answer.
    """
    said_before = len(caller.captions)
    await caller.say(await asyncio.to_thread(speak, question, VOICE))
    asked = time.monotonic()
    while True:
        utterance = await caller.hear(ANSWER_SECONDS, after=asked)
        if any(began < utterance.end for began in caller.captioned[said_before:]):
            return asked, utterance, " ".join(caller.captions[said_before:])


async def _transcript(utterance: Utterance, recogniser: Recogniser) -> Transcript:
    return await asyncio.to_thread(recogniser.transcribe, utterance.samples, utterance.rate, "ar")


def check_greeting(said: Said, greeting: str, knowledge: list[Entry]) -> None:
    """Check that the agent said the declared greeting. Raises CallError.

    The agent's transcription must be the greeting. The recognised sound must be in Arabic script, and more similar to
    the greeting than to any other text that the agent knows: Whisper *base* recognises synthetic Arabic badly.
    """
    letters = [c for c in said.heard.text if c.isalpha()]
    if not letters or sum("\u0600" <= c <= "\u06ff" for c in letters) < 0.8 * len(letters):
        raise CallError(f"the greeting was not recognised as Arabic: {said.heard.text!r}")
    if similarity(said.caption, greeting) < SAME:
        raise CallError(f"the agent said {said.caption!r} instead of the greeting")
    others = [text for entry in knowledge for text in (entry.heading, entry.text)]
    if (sounded := _nearest(said.heard.text, [greeting, *others])) != greeting:
        raise CallError(f"the greeting sounded most similar to {sounded!r}: {said.heard.text!r}")


def check_answer(said: Said, asked: Entry, knowledge: list[Entry]) -> None:
    """Check that the agent answered with the right fact, as `check_greeting` does. Raises CallError."""
    texts = [entry.text for entry in knowledge]
    if _nearest(said.caption, texts) != asked.text or similarity(said.caption, asked.text) < SAME:
        raise CallError(f"the agent answered {said.caption!r} instead of the expected fact")
    if (sounded := _nearest(said.heard.text, texts)) != asked.text:
        raise CallError(f"the answer sounded most similar to {sounded!r}: {said.heard.text!r}")


def _nearest(text: str, candidates: list[str]) -> str:
    return max(candidates, key=lambda candidate: similarity(text, candidate))


def check_video(video_frames: list[VideoFrame]) -> None:
    """Check that the avatar moves: frames differ by more than coding noise, and none is blank. Raises CallError."""
    if any(float(video_frame.std()) < 5 for video_frame in video_frames):
        raise CallError("the avatar's video is blank")
    moved = [
        float(np.mean(np.abs(a.astype(np.int16) - b.astype(np.int16)) > 24))
        for a, b in itertools.pairwise(video_frames)
        if a.shape == b.shape
    ]
    if not moved or max(moved) < 0.001:
        raise CallError("the avatar does not move")


def timeline(conversation: Conversation) -> list[tuple[str, float]]:
    """Return the seconds from the request to each step, in order."""
    m = conversation.moments
    steps = [
        ("request sent", m.requested),
        (f"room created, {m.state}", m.opened),
        ("caller connected", m.connected),
        ("agent joined", m.joined),
        ("first audible word", m.first_word),
        ("first video frame", m.first_video_frame),
        ("question asked", conversation.asked),
        ("answer begins", conversation.answer.utterance.start),
    ]
    return sorted(((name, moment - m.requested) for name, moment in steps if moment), key=lambda step: step[1])
