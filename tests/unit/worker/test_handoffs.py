"""Own agents in a call's session: tools, a hand-off and a task, with a simulated language model that calls tools."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestServer
from livekit.agents import Agent, AgentTask, ChatContext, RunContext, function_tool, llm
from livekit.agents.voice import AgentSession

from avatar_agent import CallContext
from devkit.paths import REPOSITORY
from devkit.providers.openai.app import make_app
from devkit.providers.recognition import Recogniser
from devkit.providers.simulator import Settings
from tests.unit.worker.builders import make_config
from tests.unit.worker.fakes import close_as_the_job
from tests.waiting import soon
from worker import own_code
from worker.call import conversation, metrics, voice
from worker.call.retrieval import PassageIndex
from worker.call.tools import Tools
from worker.sdk import CallSession

KEY = "openai-key"
CALL = CallContext(
    facts={},
    instructions="You are the receptionist.",
    settings={"menu": "tomato soup"},
    started=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[own_code.AgentFactory]:
    """The example's agent class."""
    monkeypatch.syspath_prepend(REPOSITORY / "examples/own-code")
    monkeypatch.setenv("TERRACE", "garden terrace")
    yield own_code.load("restaurant.agents:Receptionist")
    for name in [name for name in sys.modules if name.split(".")[0] == "restaurant"]:
        del sys.modules[name]


@asynccontextmanager
async def session_with(
    agent: Agent, tools: Tools | None = None
) -> AsyncIterator[tuple[CallSession, list[list[dict[str, Any]]]]]:
    """Run a call's session with the agent; yields it, and the messages of each request to the language model."""
    app = make_app(KEY, Settings(), recogniser=lambda: cast(Recogniser, SimpleNamespace()))
    async with TestServer(app) as server:
        openai = {"baseURL": str(server.make_url("/v1")), "credentialsSecretRef": {"name": "openai"}}
        config = make_config(language="en", voice={"openai": openai})
        client = voice.make_client(config.voice, KEY)
        session = voice.make_session(voice.Stages(config.voice, client), "en", tools=tools)
        sent: list[list[dict[str, Any]]] = []
        bounded = conversation.bounded

        def recorded(context: ChatContext, index: PassageIndex | None) -> ChatContext:
            found = bounded(context, index)
            sent.append([item.model_dump() for item in found.items])
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conversation, "bounded", recorded)
            metrics.follow_usage(session)
            await session.start(agent, record=False)
            try:
                yield session, sent
            finally:
                await close_as_the_job(session)
                await client.close()


async def said(session: AgentSession[None], text: str) -> str:
    """Let the caller say a text; returns what the agents said to it."""
    before = len(session.history.items)
    _ = await session.run(user_input=text)
    new = session.history.items[before:]
    return " ".join(item.text_content or "" for item in new if item.type == "message" and item.role == "assistant")


async def test_tools_and_a_hand_off_work_as_in_livekit_agents(example: own_code.AgentFactory) -> None:
    async with session_with(example(CALL)) as (session, sent):
        assert await said(session, "What is on the menu today?") == "Today we serve tomato soup."
        assert "reservations desk" in await said(session, "Can I book a table?")
        assert type(session.current_agent).__name__ == "Reservations"
        assert (
            await said(session, "Which tables are free?") == "Tables are free from eight o'clock on the garden terrace."
        )
        assert len(sent) >= 5, "requests of both agents are bounded"
        assert "You book tables." in sent[-1][0]["content"][0]
        assert any(item.get("name") == "free_tables" for item in sent[-1])


async def test_refreshed_tools_leave_the_conversation_of_a_language_model(example: own_code.AgentFactory) -> None:
    @function_tool
    async def delivery_date() -> str:
        """Return the delivery date."""
        return "On Friday."

    async with session_with(example(CALL), [delivery_date]) as (session, _):
        assert await said(session, "What is the delivery date?") == "On Friday."
        await session.refresh_tools()
        items = session.current_agent.chat_ctx.items
        assert [item.name for item in items if item.type == "function_call"] == ["delivery_date"]


def answering(name: str, answer: str) -> llm.RawFunctionTool[..., Any]:
    """Return a tool without arguments."""

    async def run(raw_arguments: dict[str, object]) -> str:
        return answer

    schema = {"name": name, "description": "d", "parameters": {"type": "object", "properties": {}}}
    return function_tool(run, raw_schema=schema)


class Listing(llm.Toolset):
    """A toolset as of an MCP server: it lists its tools during the call."""

    def list(self, *tools: llm.Tool) -> None:
        self._tools = tools


def clerk(*tools: llm.Tool) -> Agent:
    return Agent(instructions="You are a clerk.", tools=list(tools))


DELIVERY, PHONE = "What is the delivery date?", "What is the phone number of the branch?"


async def test_tool_of_an_agent_takes_the_place_of_one_of_the_session(caplog: pytest.LogCaptureFixture) -> None:
    shared: Tools = [answering("delivery_date", "On Friday."), answering("branch_phone", "Two three four.")]
    async with session_with(clerk(answering("delivery_date", "On Monday.")), shared) as (session, _):
        assert await said(session, DELIVERY) == "On Monday."
        assert await said(session, PHONE) == "Two three four."
        assert await said(session, DELIVERY) == "On Monday."
    assert [record.__dict__["names"] for record in caplog.records if "tools left out" in record.message] == [
        ["delivery_date"]
    ]


async def test_listed_tool_does_not_break_the_agent_that_has_its_name() -> None:
    shop = Listing(id="shop")
    async with session_with(clerk(answering("delivery_date", "On Monday.")), [shop]) as (session, _):
        assert await said(session, DELIVERY) == "On Monday."
        shop.list(answering("delivery_date", "On Friday."), answering("branch_phone", "Two three four."))
        assert await said(session, DELIVERY) == "On Monday."
        assert await said(session, PHONE) == "Two three four."


async def hand_over(session: CallSession, agent: Agent) -> None:
    """Let another agent have the call, and wait until it has."""
    session.update_agent(agent)
    assert session._update_activity_atask is not None
    await session._update_activity_atask


async def test_hand_offs_change_which_tool_has_a_name() -> None:
    shop = Listing(id="shop")
    shop.list(answering("delivery_date", "On Friday."))
    async with session_with(clerk(), [shop]) as (session, _):
        assert await said(session, DELIVERY) == "On Friday."
        await hand_over(session, clerk(answering("delivery_date", "On Monday.")))
        assert await said(session, DELIVERY) == "On Monday."
        await hand_over(session, clerk())
        assert await said(session, DELIVERY) == "On Friday."


class Confirmation(AgentTask[str]):
    """Asks one question, and is done with the answer."""

    def __init__(self) -> None:
        super().__init__(instructions="You confirm an order.")

    async def on_enter(self) -> None:
        _ = await self.session.say("Shall I place the order?")

    @function_tool
    async def confirm_order(self, context: RunContext[None]) -> None:
        """Confirm the order."""
        self.complete("confirmed")


class Waiter(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You take orders.")

    @function_tool
    async def order_soup(self, context: RunContext[None]) -> str:
        """Order a soup."""
        return f"Your order is {await Confirmation()}."


async def test_task_returns_its_result_to_the_agent() -> None:
    async with session_with(Waiter()) as (session, _):
        assert await said(session, "I want to order a soup") == "Shall I place the order?"
        await said(session, "Yes, I confirm the order")
        outputs = [item.output for item in session.history.items if item.type == "function_call_output"]
        assert "Your order is confirmed." in outputs
        assert type(session.current_agent).__name__ == "Waiter"


async def test_usage_of_every_agent_is_counted(example: own_code.AgentFactory) -> None:
    before = metrics.USAGE.labels(metrics.Usage.LLM_INPUT)._value.get()
    async with session_with(example(CALL)) as (session, _):
        await said(session, "What is on the menu today?")
        once = metrics.USAGE.labels(metrics.Usage.LLM_INPUT)._value.get()
        await said(session, "Can I book a table?")
        await said(session, "Which tables are free?")
        assert before < once < metrics.USAGE.labels(metrics.Usage.LLM_INPUT)._value.get()


class Closer(Agent):
    """Closes the session in one of its methods."""

    def __init__(self, where: str) -> None:
        super().__init__(instructions="You say goodbye.")
        self._where = where
        self.went_on = False
        """Whether the method continued after it had closed the session."""

    async def _close(self, where: str) -> None:
        if where == self._where:
            await self.session.aclose()
            self.went_on = True

    async def on_enter(self) -> None:
        await self._close("on_enter")

    async def on_exit(self) -> None:
        await self._close("on_exit")

    @function_tool
    async def hang_up(self, context: RunContext[None]) -> None:
        """Hang up."""
        await self._close("tool")


@pytest.mark.parametrize("where", ["on_enter", "tool"])
async def test_agent_closes_its_session(where: str) -> None:
    agent, closed = Closer(where), list[bool]()
    async with session_with(clerk()) as (session, _):
        session.on("close", lambda _: closed.append(session.is_closed_by_job))
        await hand_over(session, agent)
        if where == "tool":
            _ = session.generate_reply(user_input="Please hang up")
        await soon(lambda: closed)
    assert (closed, agent.went_on) == ([False], True)


async def test_agent_that_closes_its_session_at_the_end_of_the_job_holds_nothing_up() -> None:
    agent, closed = Closer("on_exit"), list[bool]()
    async with session_with(agent) as (session, _):
        session.on("close", lambda _: closed.append(session.is_closed_by_job))
        await asyncio.wait_for(close_as_the_job(session), 10)
    assert (closed, agent.went_on) == ([True], True)
