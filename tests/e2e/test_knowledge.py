"""A large knowledge base: a caller hears the right fact of it, and the language model gets only a small part."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agentspec import ConditionType
from agentspec.wire import WHOLE_KNOWLEDGE_BYTES
from tests.e2e import agents
from tests.e2e.callers import FACT, answered, greeted
from tests.e2e.conftest import Platform
from tests.e2e.simulators import last_chat
from worker.call.retrieval import PASSAGES_BYTES

HANDBOOK = Path(__file__).parents[1] / "unit/worker/knowledge"
INSTRUCTIONS_BYTES = 4096
"""More than the instructions of the example and a conversation of one question need."""

pytestmark = pytest.mark.timeout(400)


def requested(platform: Platform) -> str:
    """Return all text of the last request to the language model."""
    return "\n".join(message["content"] for message in last_chat(platform.targets.openai_url))


async def test_caller_hears_a_fact_of_a_large_knowledge_base(platform: Platform) -> None:
    texts = {path.name: path.read_text() for path in HANDBOOK.glob("*.md")}
    handbook = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "handbook"}, "data": texts}
    knowledge = [{"configMapRef": {"name": name}} for name in ("handbook", "ornina-knowledge")]
    platform.product.apply([handbook])
    manifest = agents.manifest(platform.targets, "large", knowledge=knowledge)
    with agents.declared(platform.product, manifest) as name:
        _, _, message = agents.condition(platform.product, name, ConditionType.KNOWLEDGE_LOADED)
        assert "only the passages that a question needs" in message
        async with AsyncExitStack() as stack:
            await answered(await greeted(stack, platform, name, "Layla"))
        text = requested(platform)
    assert FACT in text and "<knowledge" in text
    assert len(text.encode()) < PASSAGES_BYTES + INSTRUCTIONS_BYTES < WHOLE_KNOWLEDGE_BYTES
