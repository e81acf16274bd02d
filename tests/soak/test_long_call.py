"""Ten minutes of one call with 30 turns, interruptions, and a provider that stalls in every tenth turn.

The run prints a line for each turn: when the first sound and the reply or apology began after the caller's last word,
the longest silence until then, how long the agent spoke on after an interruption, and the memory of the worker's pod.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from devkit.demo import conversation
from devkit.demo.caller import Caller
from tests.e2e import agents
from tests.e2e.callers import greeted
from tests.e2e.conftest import NAME, Platform
from tests.e2e.test_turn_taking import ask
from tests.soak.footprint import footprint
from tests.soak.turns import Question, Said, Turn, spoken, stalled, take_turn

TURNS = 30
TURN_SECONDS = 20.5
"""From the beginning of one turn to the beginning of the next."""
FAULTS = {10: "stt", 20: "llm", 30: "tts"}
"""The stage that stalls, by turn."""
INTERRUPTIONS = range(3, TURNS, 5)
STOP_SECONDS = 1.5
"""From the first sound of an interruption until the agent is silent."""
SETTLED_TURNS = 5
"""After these, the worker has allocated and loaded what a call keeps."""
GROWN_MEGABYTES = 20.0
"""How much the worker's pod may grow from then on. A call needs 40 MiB."""

pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Observed:
    """A turn of the long call."""

    number: int
    kind: str
    turn: Turn
    spoke_on: float | None
    """Seconds that the agent spoke on after the caller began to interrupt."""
    megabytes: float

    def __str__(self) -> str:
        spoke_on = "     -" if self.spoke_on is None else f"{self.spoke_on:6.2f}"
        return f"{self.number:3} {self.kind:12} {self.turn!s:28} {spoke_on}  {self.megabytes:6.0f} MiB"


def questions(platform: Platform) -> list[Question]:
    """Return the English questions that the example's knowledge answers."""
    knowledge = platform.product.get("configmap", "ornina-knowledge")["data"]["en.md"]
    return [Question(entry.heading, entry.text, "en") for entry in conversation.entries(knowledge)]


async def interrupting_turn(
    platform: Platform, caller: Caller, first: Question, second: Question
) -> tuple[Turn, float]:
    """Ask a question over the answer to another one."""
    await ask(caller, first.text)
    turn = await take_turn(platform, caller, second)
    began = caller.began(await asyncio.to_thread(spoken, second.text))
    return turn, max(end for begin, end in caller.sounds if begin < began) - began


async def long_call(platform: Platform, agent: str, pod_uid: str) -> list[Observed]:
    """Hold the call and return its turns."""
    known, seen = questions(platform), list[Observed]()
    async with AsyncExitStack() as stack:
        caller = await greeted(stack, platform, agent, "Caller")
        began = time.monotonic()
        for number in range(1, TURNS + 1):
            await asyncio.sleep(max(0.0, began + (number - 1) * TURN_SECONDS - time.monotonic()))
            question, spoke_on = known[number % len(known)], None
            if number in INTERRUPTIONS:
                kind = "interruption"
                turn, spoke_on = await interrupting_turn(platform, caller, known[(number + 1) % len(known)], question)
            elif number in FAULTS:
                kind = f"{FAULTS[number]} stall"
                turn = await take_turn(platform, caller, question, [stalled(FAULTS[number])])
            else:
                kind = "question"
                turn = await take_turn(platform, caller, question)
            megabytes = (await asyncio.to_thread(footprint, NAME, pod_uid)).megabytes
            seen.append(Observed(number, kind, turn, spoke_on, megabytes))
            print(seen[-1], flush=True)
        print(f"the call lasted {time.monotonic() - began:.0f} s")
        assert caller.room.isconnected()
        assert len(caller.agents) == 1, "no other agent took the call over"
    return seen


@pytest.mark.allows_errors("provider failed", "Error in _llm_inference_task", "Error in _tts_inference_task")
def test_no_silence_and_flat_memory_in_ten_minutes_of_one_call(platform: Platform) -> None:
    product = platform.product
    agent = agents.manifest(
        platform.targets,
        "long",
        worker={"callsPerWorker": 4, "maxCallMinutes": 15},
        scaling=agents.ONE_WORKER,
    )
    with agents.declared(product, agent) as name:
        (pod,) = agents.workers(product, name)
        seen = asyncio.run(long_call(platform, name, pod["metadata"]["uid"]))
        assert agents.worker_names(product, name) == [pod["metadata"]["name"]]
        (container,) = product.get("pod", pod["metadata"]["name"])["status"]["containerStatuses"]
        assert container["restartCount"] == 0

    healthy = [each for each in seen if each.number not in FAULTS]
    first, last = seen[SETTLED_TURNS - 1].megabytes, seen[-1].megabytes
    print(f"longest silence {max(each.turn.longest_silence for each in seen):.2f} s")
    print(f"longest wait for a reply {max(each.turn.answer for each in healthy):.2f} s")
    print(f"memory {first:.0f} MiB after {SETTLED_TURNS} turns, {last:.0f} MiB after {TURNS}")
    assert [str(each) for each in seen if each.turn.is_silent()] == [], "a silence is too long"
    assert [str(each) for each in seen if each.turn.is_late()] == [], "the reply or the apology is late"
    assert [str(each) for each in healthy if each.turn.said is not Said.REPLY] == []
    assert [str(each) for each in seen if each.number in FAULTS and each.turn.said is not Said.APOLOGY] == []
    assert [str(each) for each in seen if each.spoke_on is not None and each.spoke_on > STOP_SECONDS] == []
    assert last <= first + GROWN_MEGABYTES
