"""The example with three providers at three addresses: called, called while each of them stalls, and corrected.

Each provider is a simulated OpenAI with a key of its own. The one that other tests use is the fallback of all.
"""

import asyncio
import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import pytest

from devkit.demo import manifests
from devkit.demo.targets import start_simulator
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.callers import answered, becomes, greeted
from tests.e2e.conftest import Platform
from tests.e2e.simulators import simulated
from tests.waiting import eventually_blocking

NAME = "three-providers"
EXAMPLE = REPOSITORY / "examples/providers/three-providers.yaml"
PORTS = {"stt": 9101, "llm": 9102, "tts": 9103}
KEYS = {"llm": f"{NAME}-vllm", "tts": f"{NAME}-kokoro"}
"""Secrets of the stages' first providers. The example's Whisper takes no key; here it needs one."""
STALLED = {"faults": [{"kind": "stall"}]}

pytestmark = pytest.mark.timeout(400)


def address(platform: Platform, stage: str) -> str:
    return f"http://{platform.cluster.node_ip}:{PORTS[stage]}/v1"


def example(platform: Platform) -> dict[str, Any]:
    """Return the example's agent with the addresses of this node, after its Secrets were applied.

    It knows and speaks what the agents of the other tests do, so that callers can ask it the same question.
    """
    product, targets = platform.product, platform.targets
    documents, _ = manifests.retarget(manifests.load(EXAMPLE.parent), targets)
    own = [one for one in documents if one["metadata"]["name"].startswith(NAME)]
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(start_simulator, platform.cluster, "openai", port, instance=stage)
            for stage, port in PORTS.items()
        ]
    keys = {stage: one.result() for stage, one in zip(PORTS, started, strict=True)}
    (declared,) = [one for one in own if one["kind"] == "AvatarAgent"]
    secrets = [one for one in own if one["kind"] == "Secret"]
    for secret in secrets:
        for stage, name in KEYS.items():
            if secret["metadata"]["name"] == name:
                secret["stringData"] = {"apiKey": keys[stage]}
    secrets.append({**secrets[-1], "metadata": {"name": f"{NAME}-stt"}, "stringData": {"apiKey": keys["stt"]}})
    product.apply(secrets)
    voice = copy.deepcopy(declared["spec"]["voice"])
    voice["stt"]["credentialsSecretRef"] = {"name": f"{NAME}-stt"}
    voice["llm"]["model"] = "gpt-4o-mini"  # the simulated providers serve OpenAI's models only
    for stage in PORTS:
        query = voice[stage]["baseURL"].partition("?")[2]
        voice[stage]["baseURL"] = address(platform, stage) + (f"?{query}" if query else "")
        for fallback in voice[stage]["fallbacks"]:
            fallback["baseURL"] = targets.openai_url
    return agents.manifest(targets, NAME, voice=voice, scaling=agents.ONE_WORKER)


def messages(platform: Platform, pod: str, text: str) -> list[dict[str, Any]]:
    return [line for line in agents.log(platform.product, pod) if line["message"] == text]


def waits_for_first_provider(platform: Platform, pod: str, stage: str) -> int:
    """Return how often a call waited for a provider in vain, and then asked the next one."""
    switching = f"switching to next {stage.upper()}"
    return len([line for line in agents.log(platform.product, pod) if switching in line["message"]])


@pytest.fixture(scope="module")
def agent(platform: Platform) -> Iterator[dict[str, Any]]:
    """The example's agent, whose worker has tried all its providers."""
    declared = example(platform)
    with agents.declared(platform.product, declared):
        asyncio.run(becomes(platform.product, NAME, "ProvidersHealthy", "True", "ProvidersSucceeded", seconds=60))
        yield declared


async def one_call(platform: Platform) -> None:
    async with AsyncExitStack() as stack:
        caller = await greeted(stack, platform, NAME, "Caller", hangs_up=True)
        await answered(caller)


@pytest.mark.allows_errors("switching to next", "recovery", "unexpected error")
@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    "stage", ["tts", pytest.param("stt", marks=pytest.mark.soak), pytest.param("llm", marks=pytest.mark.soak)]
)
def test_stalled_first_provider_is_replaced_in_every_call(platform: Platform, stage: str) -> None:
    (pod,) = agents.worker_names(platform.product, NAME)
    with simulated(address(platform, stage), STALLED):
        asyncio.run(one_call(platform))
        found = messages(platform, pod, "provider unavailable, using a fallback")
        assert stage in [line["stage"] for line in found]
        waits = waits_for_first_provider(platform, pod, stage)
        asyncio.run(one_call(platform))
        assert waits_for_first_provider(platform, pod, stage) == waits > 0, "the next call does not wait for it"
    assert messages(platform, pod, "provider failed") == []


@pytest.mark.allows_errors("stage settings invalid")
def test_unknown_option_is_named_and_the_earlier_worker_serves(platform: Platform, agent: dict[str, Any]) -> None:
    product = platform.product
    (pod,) = agents.worker_names(product, NAME)
    wrong = copy.deepcopy(agent)
    wrong["spec"]["voice"]["tts"]["options"] = {"speeed": 1.1}
    product.apply([wrong])
    asyncio.run(becomes(product, NAME, "ProvidersHealthy", "False", "StageSettingsInvalid", seconds=60))
    message = agents.condition(product, NAME, "ProvidersHealthy")[2]
    assert "spec.voice.tts.options: speeed is no option of livekit.plugins.openai.TTS, which takes" in message
    eventually_blocking(lambda: pod in agents.serving(product, NAME), "the earlier worker still takes calls", 10)
    asyncio.run(one_call(platform))
