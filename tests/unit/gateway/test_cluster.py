"""The gateway's informer of AvatarAgents and its reads of Secrets, against an API server in memory."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest

from gateway.agents import Agent, InvalidAgent
from gateway.cluster.resources import SECRET_SECONDS, ClusterAgents, ClusterSecrets
from gateway.livekit import connections
from gateway.livekit.connections import SECRET_CACHE_SECONDS, SecretConnections, SecretError, SecretsUnavailable
from kube.client import ApiError, Document
from kube.informer import INITIAL_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS
from kube.kinds import AVATAR_AGENT, SECRET, Kind
from tests.unit.fakes.apiserver import TOO_OLD, UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import now, use_loop_clock
from tests.unit.gateway.fakes import example_agent
from tests.unit.gateway.test_agents import resource
from tests.unit.gateway.test_connections import NEW, OLD

pytestmark = pytest.mark.usefixtures("virtual_time")

EVENT_SECONDS = 0.1
"""Longer than a response of the API server in memory."""


def in_namespace(namespace: str, name: str) -> Document:
    document = resource(name)
    document["metadata"]["namespace"] = namespace
    return document


def secret(**values: str) -> Document:
    data = {key: base64.b64encode(value.encode("latin-1")).decode() for key, value in values.items()}
    return {"metadata": {"namespace": "agents", "name": "livekit"}, "data": data}


def names(agents: ClusterAgents) -> list[str]:
    return sorted(agent.name for agent in agents.all())


@asynccontextmanager
async def following(server: FakeApiServer, namespace: str = "") -> AsyncIterator[ClusterAgents]:
    """A directory that is synced and keeps following the server."""
    agents = ClusterAgents(server, namespace)
    task = asyncio.create_task(agents.run())
    try:
        await agents.wait_synced()
        await asyncio.sleep(EVENT_SECONDS)
        yield agents
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_directory_is_synced_only_after_the_first_list() -> None:
    server = FakeApiServer()
    server.put(AVATAR_AGENT, resource())
    server.failures["list", "AvatarAgent"] = UNREACHABLE
    agents = ClusterAgents(server, "")
    task = asyncio.create_task(agents.run())
    waiting = asyncio.create_task(agents.wait_synced())
    await asyncio.sleep(60)
    assert (agents.synced, waiting.done(), agents.all()) == (False, False, [])
    server.failures.clear()
    await asyncio.wait_for(waiting, MAX_BACKOFF_SECONDS + 1)
    assert (agents.synced, names(agents)) == (True, ["ornina"])
    task.cancel()
    await asyncio.wait([task])


async def test_directory_follows_new_changed_and_deleted_agents() -> None:
    server = FakeApiServer()
    server.put(AVATAR_AGENT, resource("a"))
    server.put(AVATAR_AGENT, resource("b"))
    async with following(server) as agents:
        assert names(agents) == ["a", "b"]
        server.put(AVATAR_AGENT, resource("c"))
        server.put(AVATAR_AGENT, resource("a", language="ar"))
        server.remove(AVATAR_AGENT, "agents", "b")
        await asyncio.sleep(EVENT_SECONDS)
        assert names(agents) == ["a", "c"]
        changed = agents.get("agents", "a")
        assert isinstance(changed, Agent)
        assert changed.spec.language == "ar"
        assert agents.get("agents", "b") is None


async def test_change_of_the_status_alone_is_followed() -> None:
    server = FakeApiServer()
    server.put(AVATAR_AGENT, resource())
    async with following(server) as agents:
        server.put(AVATAR_AGENT, resource(status={"conditions": [{"type": "Ready", "status": "True"}]}))
        await asyncio.sleep(EVENT_SECONDS)
        found = agents.get("agents", "ornina")
        assert isinstance(found, Agent)
        assert found.ready


async def test_spec_that_becomes_invalid_and_valid_again_is_followed() -> None:
    server = FakeApiServer()
    server.put(AVATAR_AGENT, resource(colour="green"))
    async with following(server) as agents:
        invalid = agents.get("agents", "ornina")
        assert isinstance(invalid, InvalidAgent)
        assert "spec.colour" in invalid.error
        server.put(AVATAR_AGENT, resource())
        await asyncio.sleep(EVENT_SECONDS)
        assert isinstance(agents.get("agents", "ornina"), Agent)
        server.put(AVATAR_AGENT, resource(colour="green"))
        await asyncio.sleep(EVENT_SECONDS)
        assert isinstance(agents.get("agents", "ornina"), InvalidAgent)


@pytest.mark.parametrize("error", [None, UNREACHABLE], ids=["watch ended", "connection broke"])
async def test_broken_watch_resumes_without_a_new_list(error: ApiError | None) -> None:
    server = FakeApiServer()
    server.put(AVATAR_AGENT, resource("a"))
    async with following(server) as agents:
        version = server.put(AVATAR_AGENT, resource("b"))["metadata"]["resourceVersion"]
        await asyncio.sleep(EVENT_SECONDS)
        server.end_watches(error)
        server.put(AVATAR_AGENT, resource("c"))
        server.remove(AVATAR_AGENT, "agents", "a")
        await asyncio.sleep(INITIAL_BACKOFF_SECONDS + EVENT_SECONDS)
        assert names(agents) == ["b", "c"]
        assert server.watch_versions[-1] == version
    assert server.requests["list", "AvatarAgent"] == 1


async def test_expired_version_is_listed_again_without_deleted_agents() -> None:
    server = FakeApiServer()
    for name in ("a", "b"):
        server.put(AVATAR_AGENT, resource(name))
    async with following(server) as agents:
        server.end_watches(TOO_OLD)
        server.remove(AVATAR_AGENT, "agents", "a")
        server.put(AVATAR_AGENT, resource("c"))
        server.compact()
        await asyncio.sleep(INITIAL_BACKOFF_SECONDS + EVENT_SECONDS)
        assert names(agents) == ["b", "c"]
    assert server.requests["list", "AvatarAgent"] == 2


async def test_directory_keeps_its_agents_while_api_server_is_down() -> None:
    server = FakeApiServer()
    server.put(AVATAR_AGENT, resource())
    async with following(server) as agents:
        server.failures["watch", "AvatarAgent"] = server.failures["list", "AvatarAgent"] = UNREACHABLE
        server.end_watches(TOO_OLD)
        await asyncio.sleep(3600)
        assert (agents.synced, names(agents)) == (True, ["ornina"])


@pytest.mark.parametrize(
    ("namespace", "found"), [("agents", ["a"]), ("", ["a", "b"])], ids=["one namespace", "all namespaces"]
)
async def test_only_the_watched_namespace_is_listed_and_watched(namespace: str, found: list[str]) -> None:
    server = FakeApiServer()
    server.put(AVATAR_AGENT, in_namespace("agents", "a"))
    server.put(AVATAR_AGENT, in_namespace("office", "b"))
    async with following(server, namespace) as agents:
        assert names(agents) == found
        server.put(AVATAR_AGENT, in_namespace("office", "c"))
        await asyncio.sleep(EVENT_SECONDS)
        assert (agents.get("office", "c") is None) is bool(namespace)


async def test_agents_of_one_name_in_two_namespaces_are_kept_apart() -> None:
    server = FakeApiServer()
    for namespace in ("agents", "office"):
        server.put(AVATAR_AGENT, in_namespace(namespace, "a"))
    async with following(server) as agents:
        server.remove(AVATAR_AGENT, "office", "a")
        await asyncio.sleep(EVENT_SECONDS)
        assert [agent.key for agent in agents.all()] == ["agents/a"]


@pytest.mark.parametrize(
    ("outcome", "kind", "message"),
    [
        pytest.param(None, SecretError, "agents/livekit does not exist", id="missing"),
        pytest.param(
            ApiError(403, "Forbidden", "GET", "no"), SecretError, "may not read Secret agents/livekit", id="forbidden"
        ),
        pytest.param(ApiError(500, "Internal", "GET", "no"), SecretsUnavailable, "answered 500", id="server error"),
        pytest.param(ApiError(401, "Unauthorized", "GET", "no"), SecretsUnavailable, "answered 401", id="unauthorized"),
        pytest.param(UNREACHABLE, SecretsUnavailable, "did not answer: connection refused", id="unreachable"),
        pytest.param({"apiKey": "\xff\xfe"}, SecretError, "not text", id="not text"),
    ],
)
async def test_secret_that_cannot_be_read_is_explained(
    outcome: dict[str, str] | ApiError | None, kind: type[SecretError], message: str
) -> None:
    server = FakeApiServer()
    if isinstance(outcome, ApiError):
        server.failures["get", "Secret"] = outcome
    elif outcome is not None:
        server.put(SECRET, secret(**outcome))
    with pytest.raises(SecretError, match=message) as raised:
        await ClusterSecrets(server).read("agents", "livekit", ["apiKey"])
    assert type(raised.value) is kind, "only an outage lets cached credentials serve on"


async def test_base64_that_cannot_be_decoded_is_explained() -> None:
    server = FakeApiServer()
    server.put(SECRET, secret() | {"data": {"apiKey": "a"}})
    with pytest.raises(SecretError, match="not text"):
        await ClusterSecrets(server).read("agents", "livekit", ["apiKey"])


class HangingApiServer(FakeApiServer):
    """An API server that accepts requests for objects, and does not answer them while it hangs."""

    hangs = True

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        if self.hangs:
            self.requests["get", kind.kind] += 1
            await asyncio.Event().wait()
        return await super().get(kind, namespace, name)


async def test_secret_read_ends_at_its_time_limit() -> None:
    started = now()
    with pytest.raises(SecretsUnavailable, match="did not answer within 10 s"):
        await ClusterSecrets(HangingApiServer()).read("agents", "livekit", ["apiKey"])
    assert now() - started == pytest.approx(SECRET_SECONDS)


async def test_no_call_waits_for_an_api_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    use_loop_clock(monkeypatch, connections)
    server, agent = HangingApiServer(), example_agent()
    server.put(SECRET, secret(apiKey="key", apiSecret=OLD))
    server.hangs = False
    async with (
        aiohttp.ClientSession() as session,
        aclosing(SecretConnections(ClusterSecrets(server), session)) as opener,
    ):
        opened = await opener.open(agent)
        server.hangs = True
        began = now()
        for _ in range(900):
            await asyncio.sleep(1)
            assert await opener.open(agent) is opened
        assert now() - began == pytest.approx(900)
        reads = server.requests["get", "Secret"]
        assert 900 / (SECRET_CACHE_SECONDS + SECRET_SECONDS) - 1 <= reads <= 900 / SECRET_CACHE_SECONDS
        server.put(SECRET, secret(apiKey="key", apiSecret=NEW))
        server.hangs = False
        for _ in range(round(SECRET_SECONDS + SECRET_CACHE_SECONDS) + 1):
            await asyncio.sleep(1)
            opened = await opener.open(agent)
        assert opened.credentials.api_secret == NEW, "the read that hung ends, and the next one succeeds"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param({"apiKey": "key\n", "logo": "\xff\xfe"}, {"apiKey": "key"}, id="other keys may be binary"),
        pytest.param({}, {}, id="empty"),
    ],
)
async def test_secret_read_returns_only_the_requested_keys(data: dict[str, str], expected: dict[str, str]) -> None:
    server = FakeApiServer()
    server.put(SECRET, secret(**data))
    assert await ClusterSecrets(server).read("agents", "livekit", ["apiKey", "apiSecret"]) == expected


async def test_secret_without_data_has_no_values() -> None:
    server = FakeApiServer()
    server.put(SECRET, {"metadata": {"namespace": "agents", "name": "livekit"}})
    assert await ClusterSecrets(server).read("agents", "livekit", ["apiKey"]) == {}


async def test_calls_use_cached_agents_and_credentials_in_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    use_loop_clock(monkeypatch, connections)
    server = FakeApiServer()
    server.put(AVATAR_AGENT, resource())
    server.put(SECRET, secret(apiKey="key", apiSecret="a-secret-of-at-least-thirty-two-characters"))
    async with aiohttp.ClientSession() as session, following(server) as agents:
        opener = SecretConnections(ClusterSecrets(server), session)
        agent = agents.get("agents", "ornina")
        assert isinstance(agent, Agent)
        opened = await opener.open(agent)
        for verb, kind in (("get", "Secret"), ("watch", "AvatarAgent"), ("list", "AvatarAgent")):
            server.failures[verb, kind] = UNREACHABLE
        server.end_watches(UNREACHABLE)
        await asyncio.sleep(SECRET_CACHE_SECONDS + 600)
        assert agents.get("agents", "ornina") == agent
        assert await opener.open(agent) is opened
        assert server.requests["get", "Secret"] == 2, "the outage was noticed"


async def test_gateway_sends_only_requests_that_its_role_allows() -> None:
    server = FakeApiServer()
    server.put(AVATAR_AGENT, resource())
    server.put(SECRET, secret(apiKey="key"))
    async with following(server) as agents:
        await ClusterSecrets(server).read("agents", "livekit", ["apiKey"])
        server.end_watches(TOO_OLD)
        await asyncio.sleep(60)
        assert names(agents) == ["ornina"]
    assert set(server.requests) == {("list", "AvatarAgent"), ("watch", "AvatarAgent"), ("get", "Secret")}
    assert server.writes == []
