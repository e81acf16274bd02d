"""LiveKit credentials: rotated keys are used soon, and cached ones while the API server is unavailable."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from aiohttp import web
from livekit import api

import gateway.livekit.connections
from gateway.agents import Agent
from gateway.calls.housekeeping import drop_unused
from gateway.calls.ledger import Ledger
from gateway.livekit.connections import (
    DOUBT_SECONDS,
    MAX_WAIT_SECONDS,
    SECRET_CACHE_SECONDS,
    SecretConnections,
    SecretError,
    SecretsUnavailable,
)
from gateway.livekit.server import LiveKitRefused
from tests.unit.fakes.virtualtime import now, use_loop_clock
from tests.unit.gateway.fakes import Clock, FakeAgents, example_agent
from tests.unit.gateway.scenes import WAITING, agent_at, livekit_server

OLD, NEW = "an-old-secret-of-more-than-thirty-two-letters", "a-new-secret-of-more-than-thirty-two-letters"


@dataclass
class Secrets:
    """One Secret for all agents, or an error."""

    values: dict[str, str] | SecretError
    reads: int = 0
    running: int = 0
    """Reads that have begun and not ended."""
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is clear, reads hang."""

    def __post_init__(self) -> None:
        self.answers.set()

    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        self.reads += 1
        self.running += 1
        try:
            await self.answers.wait()
        finally:
            self.running -= 1
        if isinstance(self.values, SecretError):
            raise self.values
        return self.values


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(gateway.livekit.connections, "time", found)
    return found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as found:
        yield found


async def api_secret(connections: SecretConnections, agent: Agent) -> str:
    """The API secret that an agent's connection uses. Every read of a Secret that answers has ended after it."""
    found = (await connections.open(agent)).credentials.api_secret
    for _ in range(3):
        await asyncio.sleep(0)
    return found


async def test_rotated_key_is_read_when_the_cache_is_stale(clock: Clock, session: aiohttp.ClientSession) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    connections = SecretConnections(secrets, session)
    assert await api_secret(connections, example_agent()) == OLD
    secrets.values = {"apiKey": "key", "apiSecret": NEW}
    clock.now += 14
    assert (await api_secret(connections, example_agent()), secrets.reads) == (OLD, 1)
    clock.now += 2
    assert (await api_secret(connections, example_agent()), secrets.reads) == (OLD, 2), "the read is in the background"
    assert (await api_secret(connections, example_agent()), secrets.reads) == (NEW, 2)


async def test_rotated_key_is_used_at_once_after_a_time_without_requests(
    clock: Clock, session: aiohttp.ClientSession
) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    connections = SecretConnections(secrets, session)
    assert await api_secret(connections, example_agent()) == OLD
    secrets.values = {"apiKey": "key", "apiSecret": NEW}
    clock.now += DOUBT_SECONDS
    assert await api_secret(connections, example_agent()) == NEW


@pytest.mark.parametrize("age", [None, SECRET_CACHE_SECONDS, DOUBT_SECONDS], ids=["first", "stale", "long unused"])
async def test_concurrent_requests_share_one_read(
    clock: Clock, session: aiohttp.ClientSession, age: float | None
) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    connections = SecretConnections(secrets, session)
    if age is not None:
        await connections.open(example_agent())
        clock.now += age
    before = secrets.reads
    secrets.answers.clear()
    opened = [asyncio.create_task(connections.open(example_agent(f"agent-{number}"))) for number in range(50)]
    await asyncio.sleep(0)
    secrets.answers.set()
    assert len({id(connection) for connection in await asyncio.gather(*opened)}) == 1
    assert secrets.reads - before == 1


async def test_first_read_that_fails_is_an_error_of_all_who_wait(session: aiohttp.ClientSession) -> None:
    secrets = Secrets(SecretsUnavailable("unavailable"))
    connections = SecretConnections(secrets, session)
    outcomes = await asyncio.gather(*(connections.open(example_agent()) for _ in range(3)), return_exceptions=True)
    assert ([type(outcome) for outcome in outcomes], secrets.reads) == ([SecretsUnavailable] * 3, 1)
    secrets.values = {"apiKey": "key", "apiSecret": OLD}
    assert await api_secret(connections, example_agent()) == OLD


async def test_request_that_is_cancelled_ends_the_read_of_no_other(session: aiohttp.ClientSession) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    connections = SecretConnections(secrets, session)
    secrets.answers.clear()
    first, second = (asyncio.create_task(connections.open(example_agent())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    secrets.answers.set()
    assert (await second).credentials.api_secret == OLD
    assert secrets.reads == 1


@pytest.mark.usefixtures("virtual_time")
async def test_stale_credentials_are_used_at_once_while_the_api_server_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    use_loop_clock(monkeypatch, gateway.livekit.connections)
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    async with aiohttp.ClientSession() as session, aclosing(SecretConnections(secrets, session)) as connections:
        await connections.open(example_agent())
        secrets.values = {"apiKey": "key", "apiSecret": NEW}
        secrets.answers.clear()
        for _ in range(600):
            await asyncio.sleep(1)
            began = now()
            assert await api_secret(connections, example_agent()) == OLD
            assert now() == began
        assert secrets.reads == 2, "one read hangs, and no other begins"
        secrets.answers.set()
        await asyncio.sleep(1)
        assert await api_secret(connections, example_agent()) == NEW


@pytest.mark.usefixtures("virtual_time")
async def test_long_unused_credentials_wait_a_moment_for_an_api_server_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_loop_clock(monkeypatch, gateway.livekit.connections)
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    async with aiohttp.ClientSession() as session, aclosing(SecretConnections(secrets, session)) as connections:
        await connections.open(example_agent())
        secrets.answers.clear()
        await asyncio.sleep(3600)
        for wait in (MAX_WAIT_SECONDS, 0):
            began = now()
            assert await api_secret(connections, example_agent()) == OLD
            assert now() - began == pytest.approx(wait)


async def test_read_that_hangs_ends_when_the_gateway_stops(clock: Clock, session: aiohttp.ClientSession) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    async with aclosing(SecretConnections(secrets, session)) as connections:
        await connections.open(example_agent())
        secrets.answers.clear()
        clock.now += SECRET_CACHE_SECONDS
        await connections.open(example_agent())
        await asyncio.sleep(0)
        assert secrets.running == 1
    assert secrets.running == 0


async def test_rejected_key_is_read_again_soon_but_not_with_every_request(
    clock: Clock, session: aiohttp.ClientSession
) -> None:
    async def answer(request: web.Request) -> web.Response:
        try:
            api.TokenVerifier("key", NEW).verify(request.headers["Authorization"].removeprefix("Bearer "))
        except Exception:
            return web.json_response({"code": "unauthenticated", "msg": "no"}, status=401)
        return web.Response(body=api.ListRoomsResponse().SerializeToString(), content_type="application/protobuf")

    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    connections = SecretConnections(secrets, session)
    async with livekit_server(answer) as url:
        agent = agent_at(url)
        for _ in range(3):
            with pytest.raises(LiveKitRefused):
                await (await connections.open(agent)).livekit.rooms()
        assert secrets.reads == 1
        secrets.values = {"apiKey": "key", "apiSecret": NEW}
        clock.now += 1.5
        assert await (await connections.open(agent)).livekit.rooms() == []
        clock.now += 10
        assert await (await connections.open(agent)).livekit.rooms() == []
    assert secrets.reads == 2, "an accepted key stays cached"


async def test_cached_credentials_are_used_while_secrets_are_unavailable(
    clock: Clock, session: aiohttp.ClientSession
) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    connections = SecretConnections(secrets, session)
    first = await connections.open(example_agent())
    secrets.values = SecretsUnavailable("unavailable")
    clock.now += 3600
    assert await connections.open(example_agent()) is first
    clock.now += 10
    assert await connections.open(example_agent()) is first
    assert secrets.reads == 2
    with pytest.raises(SecretsUnavailable):
        await connections.open(example_agent("not-cached", namespace="others"))


@pytest.mark.parametrize(
    ("outcome", "message"),
    [(SecretError("it does not exist"), "does not exist"), ({"apiKey": "key"}, "no key apiSecret")],
    ids=["deleted", "incomplete"],
)
async def test_deleted_or_incomplete_secret_ends_the_use_of_its_cache(
    clock: Clock, session: aiohttp.ClientSession, outcome: dict[str, str] | SecretError, message: str
) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    connections = SecretConnections(secrets, session)
    await connections.open(example_agent())
    secrets.values = outcome
    clock.now += 16
    await api_secret(connections, example_agent())
    for _ in range(2):
        with pytest.raises(SecretError, match=message):
            await connections.open(example_agent())


async def test_invalid_url_is_an_error_of_its_agent(session: aiohttp.ClientSession) -> None:
    with pytest.raises(SecretError, match=r"spec\.livekit\.url"):
        await SecretConnections(Secrets({"apiKey": "key", "apiSecret": OLD}), session).open(agent_at("wss://[x"))


async def test_unused_credentials_are_removed(clock: Clock, session: aiohttp.ClientSession) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    connections = SecretConnections(secrets, session)
    declared, unused = example_agent(), example_agent(namespace="others")
    for agent in (declared, unused):
        await connections.open(agent)
    called = replace(WAITING, agent=example_agent(namespace="called"))
    ledger = Ledger()
    ledger.put(called)
    await connections.open(called.agent)
    drop_unused(FakeAgents([declared]), connections, ledger)
    secrets.values = SecretsUnavailable("unavailable")
    assert [await api_secret(connections, agent) for agent in (declared, called.agent)] == [OLD, OLD]
    with pytest.raises(SecretsUnavailable):
        await connections.open(unused)
