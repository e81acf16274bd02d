"""The example agent with a speech-to-speech model: callers hear it, interrupt it, and outlive its broken connection."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

from devkit.demo import manifests
from devkit.demo.conversation import ask
from devkit.paths import REPOSITORY
from devkit.providers.speech import similarity
from tests.e2e import agents
from tests.e2e.callers import answered, becomes, greeted
from tests.e2e.conftest import Platform
from tests.e2e.simulators import simulated
from tests.waiting import eventually_in_thread
from worker.call import sentences

EXAMPLE = REPOSITORY / "examples/realtime"
BREAKFAST = "Breakfast is served from seven to ten in the winter garden."
POOL = "The swimming pool is on the roof, and it is open until nine."
APOLOGY = sentences.for_language("en").apology
SURE = 0.8
"""Similarity of a caption that is the apology."""

pytestmark = pytest.mark.timeout(400)


def example(platform: Platform) -> dict[str, Any]:
    """Apply the example's Secrets, and return its agent for this platform."""
    documents, _ = manifests.retarget(manifests.load(EXAMPLE), platform.targets)
    *others, agent = documents
    platform.product.apply(others)
    # The trial of another worker, which may start during the call, would take the fault of the test.
    agent["spec"] |= {"dispatch": {"access": "Public"}, "scaling": agents.ONE_WORKER}
    return agent


@pytest.mark.allows_errors(
    "provider failed", "Error in _recv_task", "OpenAI Realtime API connection failed, retrying in 0.1s"
)
async def test_callers_talk_with_a_speech_to_speech_model(platform: Platform) -> None:
    product = platform.product
    with agents.declared(product, example(platform)) as name:
        await becomes(product, name, "ProvidersHealthy", "True", "ProvidersSucceeded", seconds=60)
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, name, "Layla")
            await answered(caller, "When is breakfast served?", BREAKFAST)
            broken = {"faults": [{"kind": "half_close", "endpoints": ["realtime"], "times": 1}]}
            with simulated(platform.targets.openai_url, broken):
                since = len(caller.captions)
                await ask(caller, "Is there a swimming pool?")

                def apologises() -> bool:
                    return any(similarity(caption, APOLOGY) >= SURE for caption in caller.captions[since:])

                await eventually_in_thread(apologises, "the agent apologises for the broken reply", 20)
            await answered(caller, "Is there a swimming pool?", POOL)
