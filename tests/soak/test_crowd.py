"""Fifty callers at once, on ten warm slots: all are answered, none twice, in the order in which they came."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest

from devkit.demo.caller import PAGE_HEADERS, Caller, request_call
from tests.e2e import agents
from tests.e2e.conftest import Platform

CALLERS = 50
WARM_SLOTS = 10
SLOTS_PER_WORKER = 5
FIRST_WORD_SECONDS = 110.0
STAY_SECONDS = 2.0
JOINING = 4
"""Callers whose client connects at once. All of them are in this one process, which has two cores."""

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Answered:
    """What one caller noticed."""

    number: int
    seconds: float
    """From the request until the first word."""
    agents: int
    """Agents that were ever in the room."""


async def one_call(platform: Platform, agent: str, number: int, joining: asyncio.Semaphore) -> Answered:
    """Call, hear the first word, and hang up."""
    began = time.monotonic()
    answer, moments = await request_call(platform.gateway, agent, f"Caller {number}")
    async with AsyncExitStack() as stack:
        async with joining:
            entering = Caller(f"Caller {number}", answer["url"], answer["token"], moments)
            caller = await stack.enter_async_context(entering)
        await caller.first_word(FIRST_WORD_SECONDS)
        seconds = time.monotonic() - began
        await asyncio.sleep(STAY_SECONDS)
        headers = {"Authorization": f"Bearer {answer['callToken']}", **PAGE_HEADERS}
        address = f"{platform.gateway}/v1/calls/{answer['callId']}"
        async with aiohttp.ClientSession(headers=headers) as session, session.delete(address) as response:
            assert response.status == 200, await response.text()
        return Answered(number, seconds, len(caller.agents))


async def crowd(platform: Platform, agent: str) -> list[Answered]:
    joining = asyncio.Semaphore(JOINING)
    return await asyncio.gather(*(one_call(platform, agent, number, joining) for number in range(CALLERS)))


def test_fifty_callers_at_once_are_all_answered(platform: Platform) -> None:
    manifest = agents.manifest(
        platform.targets,
        "crowd",
        worker={"callsPerWorker": SLOTS_PER_WORKER, "maxCallMinutes": 5},
        scaling={"minWorkers": WARM_SLOTS // SLOTS_PER_WORKER, "maxWorkers": 4, "freeSlots": 0},
        conversation={"idlePromptSeconds": 0},
    )
    with agents.declared(platform.product, manifest) as name:
        answers = asyncio.run(crowd(platform, name))
    ordered = sorted(answers, key=lambda one: one.seconds)
    print(f"\nfirst word after {ordered[0].seconds:.1f} to {ordered[-1].seconds:.1f} s")
    assert [one.agents for one in answers] == [1] * CALLERS
