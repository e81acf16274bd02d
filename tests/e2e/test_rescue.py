"""A worker is killed in mid-call: a new agent says that the line was interrupted, and continues the conversation."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from agentspec.wire import TURNS_ATTRIBUTE, Speaker, read_turns
from devkit.demo.caller import Caller
from devkit.demo.conversation import SAME, VOICE, ask
from devkit.providers.speech import similarity, speak
from tests.e2e import agents
from tests.e2e.callers import FACT, QUESTION, answered, greeted, says
from tests.e2e.conftest import NAME, Platform
from tests.e2e.killing import kill_worker
from tests.e2e.simulators import last_chat
from tests.waiting import eventually_in_thread
from worker.call import sentences

pytestmark = pytest.mark.timeout(400)

HOURS = (
    "What are your opening hours?",
    "We are open from nine in the morning until five in the afternoon, Sunday to Thursday.",
)
"""A question whose answer lasts long enough for the worker to be killed meanwhile, and the answer."""
INTERRUPTED = sentences.for_language("en").line_interrupted
RESCUE_SECONDS = 90
"""Usual are 5 s, in which the container starts again. Without the controller, LiveKit notices the loss after 22 s."""


def stored(caller: Caller) -> list[tuple[Speaker, str]]:
    """Return the turns in the caller's attribute."""
    turns = read_turns(caller.room.local_participant.attributes.get(TURNS_ATTRIBUTE, ""))
    return [(turn.speaker, turn.text) for turn in turns]


def spoken(platform: Platform) -> list[tuple[str, str]]:
    """Return role and text of the last request to the language model, without instructions and facts."""
    messages = last_chat(platform.targets.openai_url)
    return [
        (one["role"], one["content"])
        for one in messages
        if one["role"] in ("user", "assistant") and "<call>" not in one["content"]
    ]


def is_answer_stored(caller: Caller) -> bool:
    speaker, text = (stored(caller) or [(Speaker.AGENT, "")])[-1]
    return speaker is Speaker.AGENT and similarity(text, FACT) >= SAME


async def asks_and_hears_the_beginning(caller: Caller) -> None:
    """Let the caller ask, and return while the agent says the answer."""
    said_before = len(caller.captions)
    await caller.say(await asyncio.to_thread(speak, HOURS[0], VOICE))
    await eventually_in_thread(lambda: "".join(caller.captions[said_before:]), "the answer begins", 30)


def check_log(platform: Platform, agent: str, known: int) -> None:
    """Check that the new agents logged how much they know: all of one call, and greeting and question of the other."""
    lines = agents.logs(platform.product, agent)
    resumed = [line for line in lines if line["message"] == "conversation resumed"]
    assert sorted(line["turns"] for line in resumed) == [2, known]
    assert len({line["call_id"] for line in resumed}) == 2


def test_new_agent_continues_the_conversation(platform: Platform) -> None:
    worker = {"callsPerWorker": 2, "maxCallMinutes": 5}
    manifest = agents.manifest(
        platform.targets, "rescued", scaling=agents.ONE_WORKER, worker=worker, conversation={"idlePromptSeconds": 0}
    )
    greeting = manifest["spec"]["persona"]["greeting"]

    async def calls(name: str) -> int:
        """Return how many turns the lost agent had stored of the answered call."""
        async with AsyncExitStack() as stack:
            answered_one = await greeted(stack, platform, name, "Layla")
            await answered(answered_one)
            await eventually_in_thread(lambda: is_answer_stored(answered_one), "question and answer are stored", 10)
            assert stored(answered_one)[0] == (Speaker.AGENT, greeting)
            known = len(stored(answered_one))  # 3, and more when the caller was misheard, and asked again
            interrupted_one = await greeted(stack, platform, name, "Omar")
            (pod,) = agents.workers(platform.product, name)
            await asks_and_hears_the_beginning(interrupted_one)
            await eventually_in_thread(lambda: len(stored(interrupted_one)) == 2, "the question is stored", 10)
            heard = len(answered_one.captions), len(interrupted_one.captions)
            killed = time.monotonic()
            kill_worker(NAME, pod)
            await asyncio.gather(
                rescued(answered_one, heard[0], killed, INTERRUPTED),
                rescued(interrupted_one, heard[1], killed, INTERRUPTED, HOURS[1]),
            )
            # What a caller says over the first sentence of an agent is not answered.
            await eventually_in_thread(lambda: not answered_one.is_hearing, "the agent has finished", 20)
            await ask(answered_one, QUESTION)  # whatever Whisper hears: the request is what counts
            check_request(spoken(platform), greeting, known)
            return known

    with agents.declared(platform.product, manifest) as name:
        known = asyncio.run(calls(name))
        check_log(platform, name, known)


async def rescued(caller: Caller, heard: int, killed: float, *texts: str) -> None:
    """Wait until a new agent has said the texts, and print how long the caller waited for its first caption."""
    await eventually_in_thread(lambda: len(caller.captions) > heard, "the new agent speaks", RESCUE_SECONDS)
    print(f"{caller.name} heard the new agent {caller.captioned[heard] - killed:.1f} s after the kill")
    for text in texts:
        await says(caller, text, since=heard)
    assert len(caller.agents) == 2


def check_request(messages: list[tuple[str, str]], greeting: str, known: int) -> None:
    """Check that the language model got the turns of the lost agent, what the new one said, and the new question."""
    roles = [role for role, _ in messages]
    assert roles == ["assistant", *["user", "assistant"] * (known // 2), "assistant", "user"], messages
    texts = [text for _, text in messages]
    assert (texts[0], texts[known]) == (greeting, INTERRUPTED)
    assert similarity(texts[known - 1], FACT) > 0.9
    assert texts[1] and texts[-1]
