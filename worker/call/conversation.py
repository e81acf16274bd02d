"""What a request to the language model contains: instructions, knowledge, and the last part of the conversation.

The SDK sends the whole conversation with every request, so a long call would outgrow any model. `BoundedLLM` bounds
each request, whichever agent of the call sends it, and leaves the conversation itself as it is:

- a small knowledge base is part of the instructions; of a large one, the passages for the last questions are added;
- of the conversation, the last `HISTORY_BYTES` are sent, from a caller's turn on, and all facts about the call.

The passages are added here and not in `on_user_turn_completed`. The SDK starts a reply before the turn has surely
ended, and discards it when that hook changes the conversation (livekit-agents 1.8.9, agent_activity.py).
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from livekit.agents import Agent, ChatContext, llm

from agentspec.languages import primary
from agentspec.wire import KnowledgeDocument, Speaker, Turn, WorkerConfig
from worker.call import prompt

if TYPE_CHECKING:
    from worker.call.retrieval import PassageIndex

HISTORY_BYTES: Final = 12 * 1024
"""Most text of the conversation in one request: some 3,000 tokens, or 30 to 40 turns.

With the passages of a large knowledge base and a page of instructions, a request stays below 8,192 tokens, the smallest
context window in use.
"""
_QUESTIONS: Final = 3
"""How many of the caller's last turns the passages are searched for."""
_FACTS: Final = "avatar_agent_facts"
"""Key in a message's `extra` that marks facts about the call. It is not sent to the provider."""


class BoundedLLM(llm.LLM[Any]):
    """A language model whose requests are bounded. Its events are those of the model behind it."""

    def __init__(self, inner: llm.LLM[Any], index: "PassageIndex | None") -> None:
        super().__init__()
        self.inner = inner
        self._index = index
        for name in ("metrics_collected", "error"):
            inner.on(name, partial(self.emit, name))

    @property
    def model(self) -> str:
        """Name of the model behind it."""
        return self.inner.model

    @property
    def provider(self) -> str:
        """Provider of the model behind it."""
        return self.inner.provider

    def chat(self, *, chat_ctx: ChatContext, **options: Any) -> llm.LLMStream:
        """Send a bounded request instead of the whole conversation. Tools and all other options pass through."""
        return self.inner.chat(chat_ctx=bounded(chat_ctx, self._index), **options)

    def prewarm(self, **options: Any) -> None:
        """Prewarm the model behind it."""
        self.inner.prewarm(**options)

    async def aclose(self) -> None:
        """Close the model behind it."""
        await self.inner.aclose()


async def add_facts(agent: Agent, facts: str) -> None:
    """Add a message with facts about the call to an agent's conversation, of the lowest rank, the user's.

    An empty text adds nothing.
    """
    if facts:
        context = agent.chat_ctx.copy()
        context.add_message(role="user", content=facts, extra={_FACTS: True})
        await agent.update_chat_ctx(context)


async def resume(agent: Agent, turns: Sequence[Turn]) -> None:
    """Add the turns of a lost agent's conversation as messages of the caller and the agent."""
    context = agent.chat_ctx.copy()
    for turn in turns:
        context.add_message(role="user" if turn.speaker is Speaker.CALLER else "assistant", content=turn.text)
    await agent.update_chat_ctx(context)


def bounded(context: ChatContext, index: "PassageIndex | None") -> ChatContext:
    """Return what to send of a conversation. `context` does not change."""
    items = _last_items(context.items)
    if index is not None and (passages := index.search(_last_questions(items))):
        items = _with_knowledge(items, prompt.knowledge(passages))
    return ChatContext(items)


def index_of(config: WorkerConfig) -> "PassageIndex | None":
    """Return the index of a large knowledge base; None when all knowledge is part of the instructions.

    The index is built once in a process. The fork server builds it, and call processes inherit it.
    """
    if config.sends_whole_knowledge:
        return None
    return _build_index(tuple((document.name, document.text) for document in config.knowledge), config.language)


@lru_cache(maxsize=1)
def _build_index(documents: tuple[tuple[str, str], ...], language: str) -> "PassageIndex":
    # Imported only when needed: most agents have a small knowledge base, and the libraries take 5 MiB and 60 ms.
    from worker.call.retrieval import PassageIndex

    return PassageIndex([KnowledgeDocument(name=name, text=text) for name, text in documents], primary(language))


def _last_items(items: Sequence[llm.ChatItem]) -> list[llm.ChatItem]:
    """Return the last HISTORY_BYTES from a caller's turn on, and everything before that the model always needs.

    The caller's last turn and what follows stay whatever their size. A tool call stays together with its output: a
    provider rejects one without the other.
    """
    start, size = len(items), 0
    for position in range(len(items) - 1, -1, -1):
        item = items[position]
        if _is_always_sent(item):
            continue
        size += _size(item)
        if size > HISTORY_BYTES and start < len(items):
            break
        if _is_caller(item):
            start = position
    else:
        return list(items)
    left_out = {getattr(item, "call_id", "") for item in items[:start]} - {""}
    kept = [item for item in items[start:] if getattr(item, "call_id", "") not in left_out]
    return [item for item in items[:start] if _is_always_sent(item)] + kept


def _last_questions(items: Sequence[llm.ChatItem]) -> list[str]:
    """Return the caller's last turns, the newest first."""
    asked = [item.text_content or "" for item in items if item.type == "message" and _is_caller(item)]
    return asked[: -_QUESTIONS - 1 : -1]


def _with_knowledge(items: list[llm.ChatItem], knowledge: str) -> list[llm.ChatItem]:
    """Add knowledge to the first system message: several servers reject a second one, or one in another place."""
    for position, item in enumerate(items):
        if item.type == "message" and item.role in ("system", "developer"):
            extended = item.model_copy(update={"content": [*item.content, f"\n{knowledge}"]})
            return [*items[:position], extended, *items[position + 1 :]]
    return [llm.ChatMessage(role="system", content=[knowledge]), *items]


def _is_caller(item: llm.ChatItem) -> bool:
    return item.type == "message" and item.role == "user" and _FACTS not in item.extra


def _is_always_sent(item: llm.ChatItem) -> bool:
    return item.type == "message" and (item.role in ("system", "developer") or _FACTS in item.extra)


def _size(item: llm.ChatItem) -> int:
    match item:
        case llm.ChatMessage():
            content = item.text_content or ""
        case llm.FunctionCall():
            content = item.arguments
        case llm.FunctionCallOutput():
            content = item.output
        case _:  # a hand-off or a change of the agent's configuration, which is not sent
            content = ""
    return len(content.encode())
