"""Failing providers are reported in a condition, in Ready's message and by events, and so is their recovery."""

from typing import Any

import pytest

from agentspec import ConditionType
from agentspec.wire import ProviderStage
from kube.kinds import EVENT
from tests.cluster.standin import Worker, failing_stage, working_stages
from tests.cluster.world import World
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("controller")

PROVIDERS = ConditionType.PROVIDERS_HEALTHY
QUOTA: dict[str, Any] = {"status": 429, "code": "insufficient_quota"}
VOICE: dict[str, Any] = {"status": 400, "parameter": "voice"}
REPORT_SECONDS = 30.0
"""Limit from a failure to the condition, on a busy machine; the promise is a minute."""


def fail(worker: Worker, stage: ProviderStage, failure: dict[str, Any]) -> None:
    worker.stages = failing_stage(worker.stages, stage, **failure)


async def test_failing_provider_is_reported_and_cleared_by_the_first_success(world: World) -> None:
    (worker,) = await world.running("ava")
    await world.becomes("ava", "True", "ProvidersSucceeded", PROVIDERS)
    fail(worker, ProviderStage.LLM, QUOTA)
    fail(worker, ProviderStage.TTS, QUOTA)
    seen = await world.becomes("ava", "False", "QuotaExhausted", PROVIDERS, REPORT_SECONDS)
    assert "Requests of llm and tts fail: HTTP 429 insufficient_quota." in seen["message"]
    ready = await world.becomes("ava", "True", "AllChecksPassed")
    assert "see ProvidersHealthy" in ready["message"]

    worker.stages = working_stages()
    await world.becomes("ava", "True", "ProvidersSucceeded", PROVIDERS, REPORT_SECONDS)

    async def posted() -> list[tuple[str, str]]:
        events = await world.client.list(EVENT, world.namespace)
        own = [event for event in events if event["involvedObject"]["kind"] == "AvatarAgent"]
        ordered = sorted((event["type"], event["reason"]) for event in own)
        return ordered if ("Normal", "ProvidersSucceeded") in ordered else []

    posts = await eventually(posted, "the recovery is posted")
    assert posts is not None
    assert posts.count(("Warning", "QuotaExhausted")) == posts.count(("Normal", "ProvidersSucceeded")) == 1

    async def is_silent() -> bool:
        return "ProvidersHealthy" not in (await world.condition("ava"))["message"]

    await eventually(is_silent, "Ready warns no more")


async def test_success_of_another_worker_clears_the_condition(world: World) -> None:
    first, second = await world.running("ava", scaling={"minWorkers": 2, "maxWorkers": 2, "freeSlots": 0})
    fail(first, ProviderStage.STT, {"status": 404, "code": "model_not_found"})
    seen = await world.becomes("ava", "False", "ModelNotFound", PROVIDERS, REPORT_SECONDS)
    assert "spec.voice.stt.model ('whisper-1')" in seen["message"]
    second.stages = working_stages()
    await world.becomes("ava", "True", "ProvidersSucceeded", PROVIDERS, REPORT_SECONDS)


async def test_worker_from_before_the_fix_does_not_keep_the_condition_false(world: World) -> None:
    (old,) = await world.running("ava")
    old.calls = 1
    await world.counts_calls("ava", 1)
    fail(old, ProviderStage.TTS, VOICE)
    seen = await world.becomes("ava", "False", "RequestRejected", PROVIDERS, REPORT_SECONDS)
    assert "Correct spec.voice.tts.voice ('onyx')." in seen["message"]

    voice = world.manifest("ava")["spec"]["voice"]
    await world.declare("ava", voice={**voice, "tts": {"voice": "nova"}})
    await world.becomes("ava", "True", "ProvidersSucceeded", PROVIDERS)
    fail(old, ProviderStage.TTS, VOICE)  # in the call that it still holds
    await world.becomes("ava", "True", "RollingOut", ConditionType.PROGRESSING)
    assert world.standin.is_in_call(old)
    assert (await world.condition("ava", PROVIDERS))["status"] == "True"
    old.calls = 0
    await world.becomes("ava", "False", "RolledOut", ConditionType.PROGRESSING)
    assert (await world.condition("ava", PROVIDERS))["status"] == "True"
