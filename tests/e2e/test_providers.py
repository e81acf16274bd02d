"""Providers that fail: the agent's condition says what and why, a misspelt voice before a caller has to find out."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from devkit.demo.conversation import ask
from tests.e2e import agents
from tests.e2e.callers import QUESTION, answered, becomes, greeted
from tests.e2e.conftest import Platform
from tests.e2e.simulators import simulated
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

CONDITION = "ProvidersHealthy"
WORKING = ("True", "ProvidersSucceeded")
MINUTE = 60.0
QUOTA = {"faults": [{"kind": "quota", "endpoints": ["chat"]}]}


def voiced(platform: Platform, voice: str) -> dict[str, Any]:
    agent = agents.manifest(platform.targets, "voiced", scaling={"minWorkers": 1, "maxWorkers": 2, "freeSlots": 0})
    agent["spec"]["voice"] = {**agent["spec"]["voice"], "tts": {"voice": voice}}
    return agent


def events(platform: Platform, agent: str) -> set[tuple[str, str]]:
    """Return type and reason of the agent's events."""
    known = platform.product.items("events")
    return {(one["type"], one["reason"]) for one in known if one["involvedObject"]["name"] == agent}


def wait_for_event(platform: Platform, agent: str, kind: str, reason: str) -> None:
    eventually_blocking(lambda: (kind, reason) in events(platform, agent), f"event {reason} of {agent}")


async def becomes_within_a_minute(platform: Platform, agent: str, what: str, status: str, reason: str) -> None:
    """Wait for the condition, and print how long it took."""
    since = time.monotonic()
    await becomes(platform.product, agent, CONDITION, status, reason, seconds=MINUTE)
    print(f"{what}: {status} {reason} after {time.monotonic() - since:.1f} s")


def test_misspelt_voice_is_named_before_the_first_call(platform: Platform) -> None:
    product = platform.product
    with agents.declared(product, voiced(platform, "onix")) as name:
        asyncio.run(becomes_within_a_minute(platform, name, "misspelt voice", "False", "RequestRejected"))
        message = agents.condition(product, name, CONDITION)[2]
        assert message.startswith("Requests of tts fail: HTTP 400")
        assert "spec.voice.tts.voice ('onix')" in message
        assert "see ProvidersHealthy" in agents.condition(product, name, "Ready")[2]
        wait_for_event(platform, name, "Warning", "RequestRejected")
        status = product.get("avataragent", name)["status"]
        assert status["calls"] == {"active": 0, "pending": 0, "withAvatar": 0}, "nobody has called"

        product.apply([voiced(platform, "onyx")])
        asyncio.run(becomes_within_a_minute(platform, name, "corrected voice", *WORKING))
        assert "ProvidersHealthy" not in agents.condition(product, name, "Ready")[2]


@pytest.mark.allows_errors("provider failed", "Error in _llm_inference_task")
def test_exhausted_quota_is_reported_until_the_first_success(platform: Platform) -> None:
    product = platform.product

    async def one_call(name: str) -> None:
        await becomes_within_a_minute(platform, name, "trial", *WORKING)
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, name, "Layla")
            with simulated(platform.targets.openai_url, QUOTA):
                await ask(caller, QUESTION)
                await becomes_within_a_minute(platform, name, "apology heard", "False", "QuotaExhausted")
                message = agents.condition(product, name, CONDITION)[2]
                assert message.startswith("Requests of llm fail: HTTP 429 insufficient_quota.")
                assert "check the account's balance" in message
                assert agents.condition(product, name, "Ready")[0] == "True", "the worker takes calls"
            await answered(caller)
            await becomes_within_a_minute(platform, name, "answer heard", *WORKING)

    with agents.declared(product, agents.manifest(platform.targets, "unpaid", scaling=agents.ONE_WORKER)) as name:
        asyncio.run(one_call(name))
        wait_for_event(platform, name, "Warning", "QuotaExhausted")
        wait_for_event(platform, name, "Normal", "ProvidersSucceeded")
        pod = agents.worker_names(product, name)[0]
        failed = [line for line in agents.log(product, pod) if line["message"] == "provider failed"]
        assert {line["status"] for line in failed if line["stage"] == "llm"} == {429}
