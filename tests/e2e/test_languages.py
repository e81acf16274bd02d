"""The example agent with two languages: a caller hears the language that the call asks for."""

from contextlib import AsyncExitStack

import pytest

from devkit.demo import manifests
from devkit.demo.caller import call
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.callers import answered, says
from tests.e2e.conftest import Platform
from tests.e2e.simulators import last_chat

EXAMPLES = REPOSITORY / "examples/capabilities"

pytestmark = pytest.mark.timeout(300)


async def test_caller_is_greeted_and_understood_in_the_language_of_the_call(platform: Platform) -> None:
    documents, _ = manifests.retarget(manifests.load(EXAMPLES, "two-languages.yaml"), platform.targets)
    platform.product.apply([document for document in documents if document["kind"] != "AvatarAgent"])
    (agent,) = [document for document in documents if document["kind"] == "AvatarAgent"]
    agent["spec"] |= {"dispatch": {"access": "Public"}, "scaling": agents.ONE_WORKER}
    agent["spec"]["knowledge"] = [{"configMapRef": {"name": "ornina-knowledge"}}]
    persona = agent["spec"]["persona"]
    with agents.declared(platform.product, agent) as name:
        async with AsyncExitStack() as stack:
            caller = await stack.enter_async_context(await call(platform.gateway, name, "Layla", language="en"))
            await caller.first_word(90)
            await caller.hear(30)
            await says(caller, persona["greetings"]["en"])
            await answered(caller)
            facts = "\n".join(message["content"] for message in last_chat(platform.targets.openai_url))
            assert '"timeZone": "Asia/Damascus"' in facts
        async with AsyncExitStack() as stack:
            caller = await stack.enter_async_context(await call(platform.gateway, name, "Layla", language="ar"))
            await caller.first_word(90)
            await caller.hear(30)
            await says(caller, persona["greeting"])
