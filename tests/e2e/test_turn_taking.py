"""Turn-taking as a caller hears it: over the greeting and over an answer."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from devkit.demo import conversation
from devkit.demo.caller import Caller, call
from devkit.demo.conversation import Entry
from devkit.demo.run import QUESTION
from devkit.providers.speech import similarity, speak
from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

HELLO = "مرحبا، هل تسمعني؟"
STOP_SECONDS = 2.5
"""From the first sound of an interruption until the agent is silent: 0.3 s, and more on a busy machine. The transcript
comes later."""
SILENT_SECONDS = 0.7
"""Longer than the agent's pauses between sentences, and shorter than it waits for words."""


@pytest.fixture(scope="module")
def agent(platform: Platform) -> Iterator[str]:
    with agents.declared(platform.product, agents.manifest(platform.targets, "turns", arabic=True)) as name:
        yield name


@pytest.fixture(scope="module")
def greeting(platform: Platform) -> str:
    return str(agents.manifest(platform.targets, "turns", arabic=True)["spec"]["persona"]["greeting"])


@pytest.fixture(scope="module")
def fact(platform: Platform) -> Entry:
    knowledge = platform.product.get("configmap", "ornina-knowledge")["data"]["ar.md"]
    return conversation.entries(knowledge)[QUESTION]


async def ask(caller: Caller, question: str) -> None:
    """Ask the question, and return when the answer is audible.

    A prepared "one moment" before it has no caption.
    """
    captions = len(caller.captions)
    await caller.say(await asyncio.to_thread(speak, question, conversation.VOICE))

    async def answers() -> bool:
        return caller.is_hearing and len(caller.captions) > captions and bool(caller.captions[captions])

    await eventually(answers, "the answer begins", conversation.ANSWER_SECONDS)


def test_hello_neither_precedes_nor_cuts_the_greeting(platform: Platform, agent: str, greeting: str) -> None:
    async def scene() -> list[str]:
        hello = await asyncio.to_thread(speak, HELLO, conversation.VOICE)
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.say(hello)
            await caller.first_word(30)
            await caller.say(hello)
            await caller.hear(conversation.ANSWER_SECONDS)
            return list(caller.captions)

    (caption,) = asyncio.run(scene())
    assert similarity(caption, greeting) > conversation.SAME
    assert caption.split() == greeting.split(), "the greeting was cut"


def test_words_stop_the_agent(platform: Platform, agent: str, fact: Entry) -> None:
    async def scene() -> float:
        hello = await asyncio.to_thread(speak, HELLO, conversation.VOICE)
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.hear(conversation.ANSWER_SECONDS)
            await ask(caller, fact.heading)
            await caller.say(hello)
            begun_at = caller.began(hello)

            async def is_silent() -> bool:
                return time.monotonic() - max(begun_at, caller.last_sound) > SILENT_SECONDS

            # Before the transcript: the agent stops when it hears speech, and waits for the words.
            await eventually(is_silent, "the agent stops", conversation.ANSWER_SECONDS)
            return caller.last_sound - begun_at

    seconds = asyncio.run(scene())
    print(f"\nsilent {seconds:.2f} s after the caller began to speak")
    assert seconds < STOP_SECONDS
