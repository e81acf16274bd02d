"""What a request to the language model contains, however long the call and however large the knowledge."""

from typing import Any, cast

from livekit.agents import ChatContext, llm

from agentspec.wire import WHOLE_KNOWLEDGE_BYTES, DispatchMetadata, KnowledgeDocument, WorkerConfig
from tests.unit.worker.builders import make_config
from worker.call.call_agent import make_agent
from worker.call.conversation import HISTORY_BYTES, BoundedLLM, add_facts, bounded, index_of
from worker.call.prompt import instructions
from worker.call.retrieval import PASSAGES_BYTES

TURN_BYTES = 1000


def large_config() -> WorkerConfig:
    """A configuration whose knowledge is too large to be sent whole."""
    shops = [f"## Shop {number}\nShop {number} sells {'bread ' * 20}." for number in range(200)]
    text = "\n\n".join([*shops, "## Pharmacy\nThe pharmacy opens at eight."])
    return make_config(language="en", knowledge=[{"name": "shops", "text": text}])


def conversation(turns: int, facts: str = "") -> ChatContext:
    """A conversation of an agent that has `turns` questions and answers."""
    context = ChatContext.empty()
    context.add_message(role="system", content="You are a guide.")
    if facts:
        context.add_message(role="user", content=facts, extra={"avatar_agent_facts": True})
    context.add_message(role="assistant", content="Welcome.")
    for number in range(turns):
        context.add_message(role="user", content=f"question {number} ".ljust(TURN_BYTES, "q"))
        context.add_message(role="assistant", content=f"answer {number} ".ljust(TURN_BYTES, "a"))
    context.add_message(role="user", content="When does the pharmacy open?")
    return context


def texts(context: ChatContext) -> list[str]:
    return [item.text_content or "" for item in context.items if item.type == "message"]


def test_short_conversation_is_sent_whole() -> None:
    context = conversation(3)
    assert texts(bounded(context, None)) == texts(context)


def test_long_conversation_is_sent_from_a_question_on() -> None:
    context = conversation(500)
    before = texts(context)
    sent = texts(bounded(context, None))
    assert sent[0] == "You are a guide."
    assert sent[1].startswith("question") and sent[-1] == "When does the pharmacy open?"
    assert HISTORY_BYTES - 2 * TURN_BYTES < sum(map(len, sent[1:])) <= HISTORY_BYTES
    assert texts(context) == before, "the conversation itself is unchanged"


def test_size_counts_bytes_not_letters() -> None:
    context = ChatContext.empty()
    for _ in range(20):
        context.add_message(role="user", content="ع" * 1000)
    assert len(bounded(context, None).items) == HISTORY_BYTES // 2000


def test_last_question_is_sent_whatever_its_size() -> None:
    context = ChatContext.empty()
    context.add_message(role="user", content="before")
    context.add_message(role="user", content="x" * (HISTORY_BYTES + 1))
    assert [len(text) for text in texts(bounded(context, None))] == [HISTORY_BYTES + 1]


def test_facts_are_sent_in_a_long_conversation() -> None:
    sent = texts(bounded(conversation(500, facts="plan: gold"), None))
    assert sent[:2] == ["You are a guide.", "plan: gold"]


def test_tool_results_count_and_stay_with_their_turn() -> None:
    context = conversation(2)
    context.items.append(llm.FunctionCall(call_id="1", name="find", arguments="{}"))
    context.items.append(
        llm.FunctionCallOutput(call_id="1", name="find", output="r" * (HISTORY_BYTES - 100), is_error=False)
    )
    types = [item.type for item in bounded(context, None).items]
    assert types == ["message", "message", "function_call", "function_call_output"]


def test_small_knowledge_is_part_of_the_instructions() -> None:
    config = make_config(knowledge=[{"name": "hours", "text": "x" * WHOLE_KNOWLEDGE_BYTES}])
    assert index_of(config) is None
    assert '<knowledge name="hours">' in instructions(config)


def test_large_knowledge_is_not_part_of_the_instructions() -> None:
    config = make_config(knowledge=[{"name": "hours", "text": "x " * (WHOLE_KNOWLEDGE_BYTES // 2 + 1)}])
    assert index_of(config) is index_of(config.model_copy(deep=True)), "built once"
    text = instructions(config)
    assert "<knowledge" not in text and "only from the knowledge below" in text and "in other words" in text


def test_passages_for_the_question_end_the_system_message() -> None:
    config = large_config()
    context = conversation(500, facts="plan: gold pharmacy")
    sent = bounded(context, index_of(config))
    system = texts(sent)[0]
    assert system.startswith("You are a guide.\n\n<knowledge")
    assert "The pharmacy opens at eight." in system
    assert len(system.encode()) <= PASSAGES_BYTES + len("You are a guide.\n\n")
    assert [item.role for item in sent.items if item.type == "message"].count("system") == 1
    assert texts(context)[0] == "You are a guide.", "the conversation itself is unchanged"


def test_no_passages_before_the_first_question() -> None:
    context = ChatContext.empty()
    context.add_message(role="system", content="You are a guide.")
    assert texts(bounded(context, index_of(large_config()))) == ["You are a guide."]


def test_passages_need_no_system_message() -> None:
    context = ChatContext.empty()
    context.add_message(role="user", content="When does the pharmacy open?")
    first, question = texts(bounded(context, index_of(large_config())))
    assert "The pharmacy opens at eight." in first and question == "When does the pharmacy open?"


class FakeLLM(llm.LLM[Any]):
    """A language model that keeps its requests."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[ChatContext, dict[str, Any]]] = []

    @property
    def model(self) -> str:
        return "fake-model"

    @property
    def provider(self) -> str:
        return "fake"

    def chat(self, *, chat_ctx: ChatContext, **options: Any) -> llm.LLMStream:
        self.requests.append((chat_ctx, options))
        return cast(llm.LLMStream, "stream")


async def test_language_model_gets_the_bounded_request() -> None:
    config, model = large_config(), FakeLLM()
    agent = await make_agent(config, DispatchMetadata(call_id="c", metadata={"plan": "gold"}))
    context = agent.chat_ctx.copy()
    context.items.extend(conversation(500).items)
    options = {"tools": ["tool"], "tool_choice": "auto", "conn_options": "patient"}
    assert str(BoundedLLM(model, index_of(config)).chat(chat_ctx=context, **options)) == "stream"
    ((sent, passed),) = model.requests
    assert passed == options
    assert "gold" in "".join(texts(sent))
    assert "The pharmacy opens at eight." in "".join(texts(sent))
    assert sum(len(text.encode()) for text in texts(sent)) < HISTORY_BYTES + PASSAGES_BYTES + 1000


def test_events_of_the_language_model_reach_the_session() -> None:
    model = FakeLLM()
    bound, seen = BoundedLLM(model, None), []
    for name in ("metrics_collected", "error"):
        bound.on(name, lambda event: seen.append(event))
        model.emit(name, name)
    assert seen == ["metrics_collected", "error"]
    assert (bound.model, bound.provider) == ("fake-model", "fake")


def test_tool_output_without_its_call_is_not_sent() -> None:
    """A tool that runs while the caller speaks on: the history may be cut between call and output."""
    context = ChatContext.empty()
    context.add_message(role="user", content="Find it.")
    context.items.append(llm.FunctionCall(call_id="1", name="find", arguments="{}"))
    context.add_message(role="user", content="x" * (HISTORY_BYTES - 20))
    context.items.append(llm.FunctionCallOutput(call_id="1", name="find", output="found", is_error=False))
    context.items.append(llm.FunctionCall(call_id="2", name="find", arguments="{}"))
    context.items.append(llm.FunctionCallOutput(call_id="2", name="find", output="found", is_error=False))
    sent = bounded(context, None).items
    assert [getattr(item, "call_id", item.type) for item in sent] == ["message", "2", "2"]


def test_arguments_of_tool_calls_count() -> None:
    context = conversation(1)
    for number in range(2):
        context.add_message(role="user", content=f"question {number}")
        arguments = "a" * (HISTORY_BYTES // 2)
        context.items.append(llm.FunctionCall(call_id=str(number), name="find", arguments=arguments))
        context.items.append(llm.FunctionCallOutput(call_id=str(number), name="find", output="", is_error=False))
    assert texts(bounded(context, None)) == ["You are a guide.", "question 1"]


async def test_facts_added_later_are_sent_too(config: WorkerConfig) -> None:
    agent = await make_agent(config, DispatchMetadata(call_id="c"))
    await add_facts(agent, "")
    assert agent.chat_ctx.items == []
    await add_facts(agent, "telephone: 110")
    assert texts(bounded(agent.chat_ctx, None)) == ["telephone: 110"]


def test_whole_knowledge_counts_bytes_of_all_documents() -> None:
    half = "ع" * (WHOLE_KNOWLEDGE_BYTES // 4)
    whole = make_config(knowledge=[{"name": name, "text": half} for name in ("a", "b")])
    assert whole.sends_whole_knowledge
    more = [*whole.knowledge, KnowledgeDocument(name="c", text=".")]
    assert not whole.model_copy(update={"knowledge": more}).sends_whole_knowledge
