"""A silent caller is asked once and then hears goodbye; a long call announces its end."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from devkit.demo.caller import Caller, request_call
from tests.e2e import agents
from tests.e2e.callers import says
from tests.e2e.conftest import Platform
from tests.waiting import eventually
from worker.call import sentences

pytestmark = [pytest.mark.timeout(400), pytest.mark.soak]

WORDS = sentences.for_language("ar")
ANNOUNCED_AFTER = 60
"""Seconds from the start of a call of at most two minutes until it announces its end."""


async def state(platform: Platform, opened: dict[str, Any]) -> tuple[str, str]:
    """Return state and reason of a call, as the gateway reports them."""
    url = f"{platform.gateway}/v1/calls/{opened['callId']}"
    headers = {"Authorization": f"Bearer {opened['callToken']}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        document = await answer.json()
        return document["state"], document["reason"]


async def silent_call(platform: Platform, agent: str) -> None:
    opened, moments = await request_call(platform.gateway, agent, "Silent")
    async with Caller("Silent", opened["url"], opened["token"], moments) as caller:
        await caller.first_word(30)
        await caller.hear(30)
        for sentence in (WORDS.still_there, WORDS.goodbye):
            await says(caller, sentence, since=len(caller.captions))

        async def is_over() -> bool:
            return await state(platform, opened) == ("ended", "CallerIdle")

        await eventually(is_over, "the call ends with its own reason", 15)


async def announced_call(platform: Platform, agent: str) -> None:
    opened, moments = await request_call(platform.gateway, agent, "Long")
    started = time.monotonic()
    async with Caller("Long", opened["url"], opened["token"], moments) as caller:
        await caller.first_word(30)
        await caller.hear(30)
        heard = len(caller.captions)
        announcement = await caller.hear(ANNOUNCED_AFTER + 20)
        assert announcement.start - started > ANNOUNCED_AFTER - 10
        await says(caller, WORDS.one_minute_left, since=heard)


def test_silent_caller_is_asked_and_long_call_is_announced(platform: Platform) -> None:
    product = platform.product

    def agent(name: str, **conversation: int) -> dict[str, Any]:
        worker = {"callsPerWorker": 1, "maxCallMinutes": 2}
        return agents.manifest(
            platform.targets,
            name,
            arabic=True,
            worker=worker,
            scaling=agents.ONE_WORKER,
            conversation=conversation,
        )

    async def both(silent: str, announced: str) -> None:
        await asyncio.gather(silent_call(platform, silent), announced_call(platform, announced))

    with (
        agents.declared(product, agent("silent", idlePromptSeconds=5, idleHangUpSeconds=4), ready=False) as silent,
        agents.declared(product, agent("long", idlePromptSeconds=0)) as announced,
    ):
        product.wait_ready(silent, agents.READY_SECONDS)
        asyncio.run(both(silent, announced))
