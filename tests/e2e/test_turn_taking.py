"""Turn-taking as a caller hears it: over the greeting, over an answer, and with noise."""

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pytest

from devkit.demo import conversation
from devkit.demo.caller import RATE, Caller, call
from devkit.demo.conversation import Entry
from devkit.demo.run import QUESTION
from devkit.providers.speech import similarity, speak
from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

HELLO = "مرحبا، هل تسمعني؟"
STOP_SECONDS = 1.5
"""From the first sound of an interruption until the agent is silent: 0.3 s, and more on a busy machine."""


@pytest.fixture(scope="module")
def agent(platform: Platform) -> Iterator[str]:
    with agents.declared(platform.product, agents.manifest(platform.targets, "turns")) as name:
        yield name


@pytest.fixture(scope="module")
def greeting(platform: Platform) -> str:
    return str(agents.manifest(platform.targets, "turns")["spec"]["persona"]["greeting"])


@pytest.fixture(scope="module")
def fact(platform: Platform) -> Entry:
    knowledge = platform.product.get("configmap", "ornina-knowledge")["data"]["ar.md"]
    return conversation.entries(knowledge)[QUESTION]


async def ask_and_hear_the_beginning(caller: Caller, question: str) -> None:
    """Ask the question, and return when the answer is audible."""
    await caller.say(await asyncio.to_thread(speak, question, conversation.VOICE))

    async def speaks() -> bool:
        return caller.is_hearing

    await eventually(speaks, "the answer begins", conversation.ANSWER_SECONDS)


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


def test_noise_does_not_cut_an_answer(platform: Platform, agent: str, fact: Entry) -> None:
    async def scene() -> str:
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.hear(conversation.ANSWER_SECONDS)
            before = len(caller.captions)
            await ask_and_hear_the_beginning(caller, fact.heading)
            noise = np.random.default_rng(1).normal(0, 900, int(0.7 * RATE)).astype(np.int16)
            await caller.say(noise)
            await caller.hear(conversation.ANSWER_SECONDS)
            return " ".join(caller.captions[before:])

    assert asyncio.run(scene()).split() == fact.text.split()


def test_words_stop_the_agent(platform: Platform, agent: str, fact: Entry) -> None:
    async def scene() -> tuple[float, list[str]]:
        hello = await asyncio.to_thread(speak, HELLO, conversation.VOICE)
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.hear(conversation.ANSWER_SECONDS)
            before = len(caller.captions)
            await ask_and_hear_the_beginning(caller, fact.heading)
            spoken_at = time.monotonic()
            await caller.say(hello)
            cut = await caller.hear(conversation.ANSWER_SECONDS)
            return cut.end - spoken_at, caller.captions[before:]

    seconds, captions = asyncio.run(scene())
    print(f"\nsilent {seconds:.2f} s after the caller began to speak")
    assert seconds < STOP_SECONDS
    assert len(captions[0].split()) < len(fact.text.split()), "the caption ends where the agent stopped"
