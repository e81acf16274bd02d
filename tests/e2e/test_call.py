"""The demo's conversation: greeting, question, answer and avatar."""

import asyncio
from typing import Any

import pytest

from devkit.demo import conversation
from devkit.demo.run import QUESTION
from devkit.providers.speech import Recogniser
from tests.e2e import agents
from tests.e2e.callers import AVATAR
from tests.e2e.conftest import Platform

pytestmark = pytest.mark.timeout(400)


def test_caller_hears_greeting_and_fact_and_sees_the_avatar(platform: Platform, recogniser: Recogniser) -> None:
    agent = agents.manifest(platform.targets, "demo", avatar=True, arabic=True)
    knowledge = platform.product.get("configmap", "ornina-knowledge")["data"]["ar.md"]
    facts = conversation.entries(knowledge)
    with agents.declared(platform.product, agent) as name:
        result = asyncio.run(
            conversation.converse(
                platform.gateway, name, facts[QUESTION].heading, recogniser, video=True, note=lambda _: None
            )
        )
        (worker,) = agents.worker_names(platform.product, name)
        log = agents.log(platform.product, worker)
    conversation.check_greeting(result.greeting, agent["spec"]["persona"]["greeting"], facts)
    conversation.check_answer(result.answer, facts[QUESTION], facts)
    conversation.check_video(result.video_frames)
    assert result.answer.utterance.speaker == AVATAR, "the avatar speaks with the agent's voice"
    order = [step for step, _ in conversation.timeline(result)]
    assert order.index("agent joined") < order.index("first audible word") < order.index("answer begins")
    check_log(log)


def check_log(log: list[dict[str, Any]]) -> None:
    """Check that the worker logged its agent name, its registration, and room, avatar and voice of the call."""
    (starting,) = [line for line in log if line["message"] == "worker starting"]
    assert (starting["dispatch_mode"], starting["agent_name"]) == ("Explicit", "demo-agent")
    registered = [line for line in log if line["message"] == "registered with LiveKit"]
    assert registered[0]["worker_id"].startswith("AW_")
    (accepted,) = [line for line in log if line["message"] == "room accepted"]
    assert accepted["room"].startswith("demo-")
    assert (accepted["avatar"], accepted["voice"]) == ("Tavus", "onyx")
