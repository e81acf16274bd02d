"""A search in a large knowledge base, as a tool: a realtime model's requests cannot be extended by passages."""

from typing import TYPE_CHECKING, Any, Final

from livekit.agents import llm

from agentspec.tools import KNOWLEDGE_SEARCH
from worker.call import prompt
from worker.call.tools.use import bounded

if TYPE_CHECKING:
    from worker.call.retrieval import PassageIndex

_SCHEMA: Final[dict[str, Any]] = {
    "name": KNOWLEDGE_SEARCH,
    "description": "Find the passages of the knowledge that answer a question. Call it before you answer any question "
    "about facts, and answer only from what it returns.",
    "parameters": {
        "type": "object",
        "properties": {"question": {"type": "string", "description": "The caller's question, in the caller's words."}},
        "required": ["question"],
    },
}


def knowledge_tool(index: "PassageIndex") -> llm.Tool:
    """Return the tool that searches an index."""

    async def search(raw_arguments: dict[str, object]) -> str:
        found = index.search([str(raw_arguments.get("question", ""))])
        return bounded(prompt.knowledge(found)) if found else "Nothing was found."

    return llm.function_tool(search, raw_schema=_SCHEMA)
