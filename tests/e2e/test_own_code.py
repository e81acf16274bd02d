"""Agents with own code: the examples as callers hear them, and code that a worker cannot use."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from devkit.demo import manifests
from devkit.demo.product import AGENTS_NAMESPACE
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.callers import answered, becomes, greeted
from tests.e2e.conftest import Platform
from tests.e2e.simulators import last_chat
from tests.waiting import eventually_in_thread

EXAMPLES = REPOSITORY / "examples"
ASSISTANT = """
from livekit.agents import Agent


class Assistant(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You are a friendly, reliable voice assistant.")
"""

pytestmark = pytest.mark.timeout(600)


def example(platform: Platform, name: str) -> dict[str, Any]:
    """Build the image of an example, apply its Secrets, and return its agent for this platform."""
    documents, _ = manifests.retarget(manifests.load(EXAMPLES / name), platform.targets)
    *others, agent = documents
    platform.product.apply(others)
    image = platform.cluster.load_example(EXAMPLES / name, platform.product.worker_image)
    agent["spec"]["worker"] |= {"image": image}
    agent["spec"] |= {"dispatch": {"access": "Public"}, "scaling": {"mode": "Fixed", "workers": 1}}
    for variable in agent["spec"]["worker"].get("env", []):
        if variable["name"] == "OPENAI_BASE_URL":
            variable["value"] = platform.targets.openai_url
    return agent


async def test_callers_reach_tools_and_a_second_agent_of_own_code(platform: Platform) -> None:
    agent = example(platform, "own-code")
    with agents.declared(platform.product, agent) as name:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, name, "Layla")

            async def asks(question: str, answer: str) -> list[dict[str, str]]:
                """Ask the agent; returns the messages of the last request to the language model."""
                try:
                    await answered(caller, question, answer)
                except AssertionError as error:
                    raise AssertionError(f"{error}; the model had {_requested(platform)[-4:]}") from error
                return _requested(platform)

            sent = await asks("What is on the menu today?", "Today we serve tomato soup and fresh bread.")
            assert sent[0]["content"].startswith("You are the receptionist of the restaurant Olive Tree.")
            desk = "Welcome to our reservations desk. When would you like to come?"
            await asks("I would like to book a table, please.", desk)
            sent = await asks("Which tables are free?", "Tables are free from eight o'clock on the garden terrace.")
            assert "You book tables." in sent[0]["content"], "the second agent's instructions"


def _requested(platform: Platform) -> list[dict[str, str]]:
    return last_chat(platform.targets.openai_url)


async def test_program_of_ones_own_answers_and_drains(platform: Platform) -> None:
    agent = example(platform, "whole-program")
    with agents.declared(platform.product, agent) as name:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, name, "Layla")
            await answered(caller, "When are you open?", "We are open every day from nine in the morning.")
            (pod,) = agents.worker_names(platform.product, name)
            calls = "avatar_agent_worker_calls 1.0"
            await eventually_in_thread(lambda: calls in _metrics(platform, pod), "the worker counts the call", 20)
            agent["spec"]["suspend"] = True
            await asyncio.to_thread(platform.product.apply, [agent])
            drains = lambda: "draining, declining new jobs" in str(agents.log(platform.product, pod))  # noqa: E731
            await eventually_in_thread(drains, "the worker drains", 60)
            await answered(caller, "When are you open?", "We are open every day from nine in the morning.")
        ended = lambda: "call ended" in str(agents.log(platform.product, pod))  # noqa: E731
        await eventually_in_thread(ended, "the call ended", 60)


def _metrics(platform: Platform, pod: str) -> str:
    path = f"/api/v1/namespaces/{AGENTS_NAMESPACE}/pods/{pod}:8080/proxy/metrics"
    return platform.product.kubectl_run("get", "--raw", path)


@pytest.fixture
def image(platform: Platform, tmp_path: Path) -> Iterator[str]:
    """An image with a working assistant, and modules that fail."""
    folder = tmp_path / "own-broken"
    folder.mkdir()
    (folder / "good.py").write_text(ASSISTANT)
    (folder / "raises.py").write_text("raise RuntimeError('no menu today')\n")
    (folder / "hangs.py").write_text("import time\n\ntime.sleep(3600)\n")
    dockerfile = "ARG WORKER_IMAGE\nFROM ${WORKER_IMAGE}\nCOPY good.py raises.py hangs.py ./\n"
    (folder / "Dockerfile").write_text(dockerfile)
    yield platform.cluster.load_example(folder, platform.product.worker_image)


@pytest.mark.allows_errors("own code failed, not registering", "own code raised")
async def test_broken_code_is_explained_and_workers_before_it_serve(platform: Platform, image: str) -> None:
    product = platform.product
    worker = {"image": image, "agent": "raises:Assistant", "callsPerWorker": 4, "maxCallMinutes": 5}
    manifest = agents.manifest(platform.targets, "broken", worker=worker)
    with agents.declared(product, manifest, ready=False) as name:
        await becomes(product, name, "WorkersRegistered", "False", "AgentCodeFailed", seconds=120)
        _, reason, message = agents.condition(product, name, "Ready")
        assert reason == "AgentCodeFailed"
        assert "RuntimeError: no menu today (raises.py, line 1)" in message and "kubectl logs " in message
        (pod,) = agents.workers(product, name)
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0, "no crash loop"

        manifest["spec"]["worker"] = worker | {"agent": "good:Assistant"}
        product.apply([manifest])
        product.wait_ready(name, agents.READY_SECONDS)
        manifest["spec"]["worker"] = worker | {"agent": "not_there:Assistant"}
        product.apply([manifest])
        await becomes(product, name, "WorkersRegistered", "True", "PartlyRegistered", seconds=120)
        message = agents.condition(product, name, "WorkersRegistered")[2]
        assert "ModuleNotFoundError: No module named 'not_there'" in message
        async with AsyncExitStack() as stack:
            await greeted(stack, platform, name, "Layla")
