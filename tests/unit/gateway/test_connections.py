"""LiveKit credentials: rotated keys are found soon, and those at hand serve on while the API server is away."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit import api

from gateway import connections
from gateway.adoption import drop_unused
from gateway.agents import Agent
from gateway.connections import SecretConnections, SecretError, SecretsUnavailable
from gateway.ledger import Ledger
from gateway.livekit import LiveKitRefused
from tests.unit.gateway.fakes import FakeAgents, example_agent
from tests.unit.gateway.scenes import WAITING

OLD, NEW = "an-old-secret-of-more-than-thirty-two-letters", "a-new-secret-of-more-than-thirty-two-letters"


@dataclass
class Secrets:
    """One Secret for everybody, or the reason why it cannot be had."""

    values: dict[str, str] | SecretError
    reads: int = 0

    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        self.reads += 1
        if isinstance(self.values, SecretError):
            raise self.values
        return self.values


@dataclass
class Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(connections, "time", found)
    return found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as found:
        yield found


def at(url: str, name: str = "ornina") -> Agent:
    found = example_agent(name)
    server = found.spec.livekit.model_copy(update={"url": url})
    return replace(found, spec=found.spec.model_copy(update={"livekit": server}))


async def secret(found: SecretConnections, of: Agent) -> str:
    return (await found.open(of)).credentials.api_secret


async def test_a_rotated_key_is_found_in_time(clock: Clock, session: aiohttp.ClientSession) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    found = SecretConnections(secrets, session)
    assert await secret(found, example_agent()) == OLD
    secrets.values = {"apiKey": "key", "apiSecret": NEW}
    clock.now += 14
    assert (await secret(found, example_agent()), secrets.reads) == (OLD, 1)
    clock.now += 2
    assert (await secret(found, example_agent()), secrets.reads) == (NEW, 2)


async def test_a_key_that_livekit_refuses_is_looked_up_again_at_once_and_not_with_every_request(
    clock: Clock, session: aiohttp.ClientSession
) -> None:
    async def answer(request: web.Request) -> web.Response:
        try:
            api.TokenVerifier("key", NEW).verify(request.headers["Authorization"].removeprefix("Bearer "))
        except Exception:
            return web.json_response({"code": "unauthenticated", "msg": "no"}, status=401)
        return web.Response(body=api.ListRoomsResponse().SerializeToString(), content_type="application/protobuf")

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", answer)
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    found = SecretConnections(secrets, session)
    async with TestServer(application) as server:
        ours = at(str(server.make_url("")).replace("http", "ws").rstrip("/"))
        for _ in range(3):
            with pytest.raises(LiveKitRefused):
                await (await found.open(ours)).livekit.rooms()
        assert secrets.reads == 1
        secrets.values = {"apiKey": "key", "apiSecret": NEW}
        clock.now += 1.5
        assert await (await found.open(ours)).livekit.rooms() == []
        clock.now += 10
        assert await (await found.open(ours)).livekit.rooms() == []
    assert secrets.reads == 2, "an accepted key is kept as long as any"


async def test_credentials_serve_on_while_the_api_server_is_away_and_it_is_not_asked_every_time(
    clock: Clock, session: aiohttp.ClientSession
) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    found = SecretConnections(secrets, session)
    first = await found.open(example_agent())
    secrets.values = SecretsUnavailable("away")
    clock.now += 3600
    assert await found.open(example_agent()) is first
    clock.now += 10
    assert await found.open(example_agent()) is first
    assert secrets.reads == 2
    with pytest.raises(SecretsUnavailable):
        await found.open(example_agent("unseen", namespace="others"))


@pytest.mark.parametrize(
    ("outcome", "told"),
    [(SecretError("it does not exist"), "does not exist"), ({"apiKey": "key"}, "no key apiSecret")],
    ids=["deleted", "broken"],
)
async def test_a_secret_that_is_gone_serves_no_more(
    clock: Clock, session: aiohttp.ClientSession, outcome: dict[str, str] | SecretError, told: str
) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    found = SecretConnections(secrets, session)
    await found.open(example_agent())
    secrets.values = outcome
    clock.now += 16
    with pytest.raises(SecretError, match=told):
        await found.open(example_agent())


async def test_a_url_that_is_none_is_a_problem_of_its_agent(session: aiohttp.ClientSession) -> None:
    with pytest.raises(SecretError, match=r"spec\.livekit\.url"):
        await SecretConnections(Secrets({"apiKey": "key", "apiSecret": OLD}), session).open(at("wss://[x"))


async def test_credentials_that_nobody_uses_are_forgotten(clock: Clock, session: aiohttp.ClientSession) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    found = SecretConnections(secrets, session)
    kept, gone = example_agent(), example_agent(namespace="others")
    for of in (kept, gone):
        await found.open(of)
    called = replace(WAITING, agent=example_agent(namespace="called"))
    ledger = Ledger()
    ledger.put(called)
    await found.open(called.agent)
    drop_unused(FakeAgents([kept]), found, ledger)
    secrets.values = SecretsUnavailable("away")
    assert [await secret(found, of) for of in (kept, called.agent)] == [OLD, OLD]
    with pytest.raises(SecretsUnavailable):
        await found.open(gone)
