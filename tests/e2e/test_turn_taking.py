"""Turn-taking as a caller hears it: over the greeting, over an answer, and with noise."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from devkit.demo import conversation
from devkit.demo.caller import RATE, Caller, call
from devkit.demo.conversation import Entry
from devkit.demo.run import QUESTION
from devkit.demo.utterances import AUDIBLE
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


async def ask(caller: Caller, question: str) -> int:
    """Ask the question, and return when the answer is audible, with the number of its caption.

    A prepared "one moment" before it has no caption.
    """
    captions = len(caller.captions)
    await caller.say(await asyncio.to_thread(speak, question, conversation.VOICE))

    async def answers() -> bool:
        return caller.is_hearing and len(caller.captions) > captions and bool(caller.captions[captions])

    await eventually(answers, "the answer begins", conversation.ANSWER_SECONDS)
    return captions


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
    async def scene() -> None:
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.hear(conversation.ANSWER_SECONDS)
            answer = await ask(caller, fact.heading)
            await caller.say(np.random.default_rng(1).normal(0, 900, int(0.7 * RATE)).astype(np.int16))

            async def is_complete() -> bool:
                return " ".join(caller.captions[answer:]).split() == fact.text.split()

            await eventually(is_complete, "the whole answer was said, and nothing else", conversation.ANSWER_SECONDS)

    asyncio.run(scene())


def test_words_stop_the_agent(platform: Platform, agent: str, fact: Entry) -> None:
    async def scene() -> tuple[float, str]:
        hello = await asyncio.to_thread(speak, HELLO, conversation.VOICE)
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.hear(conversation.ANSWER_SECONDS)
            answer = await ask(caller, fact.heading)
            await caller.say(hello)
            begun_at = caller.last_word - hello.size / RATE + float(np.argmax(np.abs(hello) > AUDIBLE)) / RATE
            # An utterance that ended before is the prepared phrase.
            while (cut := await caller.hear(conversation.ANSWER_SECONDS)).end < begun_at:
                pass
            return cut.end - begun_at, caller.captions[answer]

    seconds, caption = asyncio.run(scene())
    print(f"\nsilent {seconds:.2f} s after the caller began to speak")
    assert seconds < STOP_SECONDS
    assert len(caption.split()) < len(fact.text.split()), "the caption ends where the agent stopped"
