"""Example calls and requests, and steps that several tests share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
from aiohttp import web
from aiohttp.test_utils import TestServer

from agentspec.wire import CallOutcome, JobReport, JobState, WorkerCalls, read_room_record, render
from gateway.agents import Agent
from gateway.calls.call import Call, CallState, Cause
from gateway.calls.request import parse_request
from gateway.client import Client
from tests.unit.gateway.fakes import World, example_agent

NOW = 1000.0
JOIN_TIMEOUT_SECONDS = 6
WAITING = Call(
    id="c1",
    agent=example_agent(join_timeout_seconds=JOIN_TIMEOUT_SECONDS),
    agent_name="ornina-agent",
    room="ornina-c1",
    identity="caller-c1",
    request_hash="h",
    call_token_hash="t",
    dispatch_metadata="{}",
    state=CallState.WAITING,
    created_at=NOW,
    search_started_at=NOW,
    state_since=NOW,
)
DISPATCHED = replace(WAITING, state=CallState.DISPATCHED, causes=(Cause.FIRST,), free_slot_known=True)
JOINED = replace(DISPATCHED, state=CallState.JOINED, caller_seen_at=NOW, agent_seen_at=NOW)

ROOM = "ornina-of-the-back-end"
"""A room that another program made."""
CLIENT = Client("public", "publishable/ios-2f7c9a1e", "203.0.113.7")
BODY = {"agent": "ornina", "name": "Layla"}
IDEMPOTENCY_KEY = "one-and-the-same"
KEYED = {"Idempotency-Key": IDEMPOTENCY_KEY}
REQUEST = parse_request(b'{"agent": "ornina", "name": "Layla", "userId": "user-7"}')

STATE_SECONDS = 150.0
"""Longer than every timeout of a call except its maximum duration."""
POLL_SECONDS = 0.05


async def open_call(world: World, *, key: str | None = None, caller: bool = True, agent: Agent | None = None) -> Call:
    """Open a call; its caller connects."""
    call = (await world.gateway.opener.open(agent or example_agent(), REQUEST, CLIENT, key)).call
    if caller:
        world.livekit.connect_caller(call.room, call.identity)
    return call


def current(world: World, call: Call) -> Call:
    """The call as the ledger has it now."""
    found = world.gateway.ledger.get(call.id)
    assert found is not None
    return found


async def reaches(world: World, call: Call, state: CallState) -> Call:
    """Wait until a call is in a state."""
    await becomes_true(lambda: current(world, call).state is state)
    return current(world, call)


async def becomes_true(is_so: Callable[[], object]) -> None:
    """Wait for a state of the world, in the time of the running event loop, which may be virtual."""
    async with asyncio.timeout(STATE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - several tasks may bring the state about, and none of them signals it
            await asyncio.sleep(POLL_SECONDS)


def report_outcome(world: World, call: Call, outcome: CallOutcome) -> None:
    """Write the outcome of a call into its room record, as a worker does."""
    room = world.livekit.rooms_by_name[call.room]
    record = read_room_record(room.metadata)
    assert record is not None
    room.metadata = render(record.model_copy(update={"outcome": outcome}))


def report_of_ended(agent: str, room: str) -> WorkerCalls:
    """Return a worker's report that its job in a room has ended the call; ``agent`` is the agent's identity."""
    job_id, outcome = agent.removeprefix("agent-"), CallOutcome.AGENT_ENDED
    job = JobReport(job_id=job_id, room=room, state=JobState.ENDED, outcome=outcome)
    return WorkerCalls(agent="agents/ornina", worker="worker-1", jobs=[job])


async def adopt(world: World) -> None:
    """Search for calls to adopt, once."""
    await world.gateway.watch.list_now()


def agent_at(url: str, name: str = "ornina") -> Agent:
    """An agent on another LiveKit server."""
    agent = example_agent(name)
    livekit = agent.spec.livekit.model_copy(update={"url": url})
    return replace(agent, spec=agent.spec.model_copy(update={"livekit": livekit}))


@asynccontextmanager
async def livekit_server(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Run a web server that answers every request with this function. Yields its WebSocket URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        yield str(server.make_url("")).replace("http", "ws").rstrip("/")


async def post_call(
    http: httpx.AsyncClient, headers: dict[str, str] | None = None, *, status: int = 201, **changes: Any
) -> dict[str, Any]:
    """Open a call over HTTP and return the response body; ``status`` is 200 for a repeated request."""
    response = await http.post("/v1/calls", json=BODY | changes, headers=headers)
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    return body


def call_token_of(call: dict[str, Any]) -> dict[str, str]:
    """Headers with the call token of an opened call."""
    return {"Authorization": f"Bearer {call['callToken']}"}
