"""The demo's path, asserted: greeting, question, answer, face."""

import asyncio

from devkit.demo import conversation
from devkit.demo.run import QUESTION
from devkit.providers.speech import Recogniser
from tests.e2e import agents
from tests.e2e.conftest import Platform


def test_a_caller_is_greeted_in_arabic_answered_from_the_knowledge_and_sees_a_moving_face(
    platform: Platform, recogniser: Recogniser
) -> None:
    agent = agents.manifest(platform.targets, "demo", avatar=True)
    knowledge = platform.product.get("configmap", "ornina-knowledge")["data"]["ar.md"]
    facts = conversation.entries(knowledge)
    with agents.declared(platform.product, agent) as name:
        result = asyncio.run(
            conversation.converse(
                platform.gateway, name, facts[QUESTION].heading, recogniser, video=True, note=lambda _: None
            )
        )
    conversation.check_greeting(result.greeting, agent["spec"]["persona"]["greeting"])
    conversation.check_answer(result.answer, result.caption, facts[QUESTION], facts)
    conversation.check_pictures(result.pictures)
    order = [step for step, _ in conversation.timeline(result)]
    assert order.index("agent joined") < order.index("first audible word") < order.index("answer begins")
