"""LiveKit credentials: rotated keys are used soon, and cached ones while the API server is unavailable."""

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
    """One Secret for all agents, or an error."""

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


async def test_rotated_key_is_read_when_the_cache_is_stale(clock: Clock, session: aiohttp.ClientSession) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    found = SecretConnections(secrets, session)
    assert await secret(found, example_agent()) == OLD
    secrets.values = {"apiKey": "key", "apiSecret": NEW}
    clock.now += 14
    assert (await secret(found, example_agent()), secrets.reads) == (OLD, 1)
    clock.now += 2
    assert (await secret(found, example_agent()), secrets.reads) == (NEW, 2)


async def test_rejected_key_is_read_again_soon_but_not_with_every_request(
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
    assert secrets.reads == 2, "an accepted key stays cached"


async def test_cached_credentials_are_used_while_secrets_are_unavailable(
    clock: Clock, session: aiohttp.ClientSession
) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    found = SecretConnections(secrets, session)
    first = await found.open(example_agent())
    secrets.values = SecretsUnavailable("unavailable")
    clock.now += 3600
    assert await found.open(example_agent()) is first
    clock.now += 10
    assert await found.open(example_agent()) is first
    assert secrets.reads == 2
    with pytest.raises(SecretsUnavailable):
        await found.open(example_agent("unseen", namespace="others"))


@pytest.mark.parametrize(
    ("outcome", "message"),
    [(SecretError("it does not exist"), "does not exist"), ({"apiKey": "key"}, "no key apiSecret")],
    ids=["deleted", "broken"],
)
async def test_deleted_or_incomplete_secret_ends_the_use_of_its_cache(
    clock: Clock, session: aiohttp.ClientSession, outcome: dict[str, str] | SecretError, message: str
) -> None:
    secrets = Secrets({"apiKey": "key", "apiSecret": OLD})
    found = SecretConnections(secrets, session)
    await found.open(example_agent())
    secrets.values = outcome
    clock.now += 16
    with pytest.raises(SecretError, match=message):
        await found.open(example_agent())


async def test_invalid_url_is_an_error_of_its_agent(session: aiohttp.ClientSession) -> None:
    with pytest.raises(SecretError, match=r"spec\.livekit\.url"):
        await SecretConnections(Secrets({"apiKey": "key", "apiSecret": OLD}), session).open(at("wss://[x"))


async def test_unused_credentials_are_removed(clock: Clock, session: aiohttp.ClientSession) -> None:
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
    secrets.values = SecretsUnavailable("unavailable")
    assert [await secret(found, of) for of in (kept, called.agent)] == [OLD, OLD]
    with pytest.raises(SecretsUnavailable):
        await found.open(gone)
