"""The example agent with tools: a caller hears what an HTTP API and an MCP server answer, and the agent hangs up."""

import asyncio
import copy
from contextlib import AsyncExitStack
from typing import Any

import pytest

from devkit.demo import manifests
from devkit.demo.conversation import VOICE
from devkit.demo.targets import start_simulator
from devkit.paths import REPOSITORY
from devkit.providers.speech import speak
from tests.e2e import agents
from tests.e2e.callers import answered, greeted
from tests.e2e.conftest import Platform
from tests.waiting import eventually_in_thread

SHOP_PORT = 9300
EXAMPLE = REPOSITORY / "examples/tools"
FAILED = "The tool failed: the caller has no telephone. Tell the caller in one sentence that this did not work."
"""The simulated language model says the result of a tool as it stands."""

pytestmark = pytest.mark.timeout(400)


def pointed(platform: Platform) -> list[dict[str, Any]]:
    """Return the example's objects with the addresses and keys of this node."""
    key = start_simulator(platform.cluster, "shop", SHOP_PORT)
    documents, _ = manifests.retarget(manifests.load(EXAMPLE), platform.targets)
    documents = copy.deepcopy(documents)
    for document in documents:
        if document["metadata"]["name"] == "shop-tools":
            document["stringData"] = {"authorization": f"Bearer {key}"}
        if document["kind"] == "AvatarAgent":
            for tool in document["spec"]["tools"]:
                for source in (tool.get("http"), tool.get("mcp")):
                    if source:
                        shop = f"http://{platform.cluster.node_ip}:{SHOP_PORT}"
                        source["url"] = source["url"].replace("https://shop.example", shop)
    return documents


async def test_caller_hears_the_results_of_tools(platform: Platform) -> None:
    product, documents = platform.product, pointed(platform)
    product.apply([document for document in documents if document["kind"] != "AvatarAgent"])
    (agent,) = [document for document in documents if document["kind"] == "AvatarAgent"]
    agent["spec"] |= {"dispatch": {"access": "Public"}, "scaling": agents.ONE_WORKER}

    def logged(*messages: str) -> list[dict[str, Any]]:
        return [line for line in agents.logs(product, "shop") if line["message"] in messages]

    def ended_by_agent() -> bool:
        return [line["outcome"] for line in logged("call ended")] == ["agent_ended"]

    with agents.declared(product, agent) as name:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, name, "Layla")
            await answered(caller, "What is the delivery date for Berlin?", "Deliveries to Berlin arrive on Friday.")
            await answered(
                caller,
                "What is the phone number of the branch in Hamburg?",
                "The branch in Hamburg has the number two three four.",
            )
            # There is no SIP service, and this caller has no telephone: the failure is explained.
            await answered(caller, "Please give me a person.", FAILED)
            await eventually_in_thread(lambda: not caller.is_hearing, "the agent has finished", 20)
            goodbye = await asyncio.to_thread(speak, "Goodbye.", VOICE)
            await caller.say(goodbye)
            try:
                await eventually_in_thread(ended_by_agent, "the agent has ended the call", 30)
            except AssertionError:  # Whisper has misheard it
                await caller.say(goodbye)
                await eventually_in_thread(ended_by_agent, "the agent has ended the call", 40)
        used = [(line["tool"], line["outcome"]) for line in logged("tool used", "tool failed")]
    assert used == [
        ("delivery_date", "succeeded"),
        ("branch_phone", "succeeded"),
        ("person", "failed"),
        ("goodbye", "succeeded"),
    ]
