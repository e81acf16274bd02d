"""Access control: who may call which agent, and how often."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from gateway.agents import Agent, InvalidAgent
from gateway.api.access import Access, idempotency_key
from gateway.api.keys import ApiKeys, Identity
from gateway.api.limits import create_limits
from gateway.api.oidc import Tokens
from gateway.client import Client
from gateway.errors import ErrorReason, RequestError
from tests.unit.gateway.fakes import FakeAgents, FakeIssuer, example_agent

KEY, AGENT_KEY, FOREIGN_KEY = "a-long-enough-api-key", "the-key-of-one-agent", "the-key-of-another-namespace"
PEER = "192.0.2.1"
PAGE = {"origin": "https://www.example.com", "host": "gateway.example"}
AGENTS: list[Agent | InvalidAgent] = [
    example_agent("public", allowed_origins=["https://www.example.com"], publishable_keys=["ios-2f7c9a1e"]),
    example_agent("private", access="Authenticated", allowed_origins=["https://www.example.com"]),
    example_agent("other", access="Authenticated"),
    InvalidAgent("agents", "broken", "spec.language: no"),
]


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., Access]:
    """Create access control with three keys; `limits` are those by address, key and agent."""
    for name, key in (("agents.site", KEY), ("agents.private.app", AGENT_KEY), ("shop.site", FOREIGN_KEY)):
        (tmp_path / name).write_text(key)

    def create_access(*limits: int, proxy_hops: int = 0) -> Access:
        keys, tokens = ApiKeys(tmp_path), Tokens((), FakeIssuer().fetch)
        limited, hosts = create_limits(*limits or (60,) * 3), ("gateway.example",)
        return Access(FakeAgents(list(AGENTS)), keys, tokens, limited, hosts, proxy_hops)

    return create_access


def bearer(key: str) -> dict[str, str]:
    """Headers of a back end."""
    return {"authorization": f"Bearer {key}"}


def identify(access: Access, headers: dict[str, str], address: str) -> Identity | None:
    """Holder of the key that a request carries."""
    return asyncio.run(access.identify(Headers(headers), address))


def admit(access: Access, name: str, headers: dict[str, str], peer: str = PEER) -> Client:
    """Client of a request for a call to an agent."""
    address = access.address(Headers(headers), peer)
    identity = identify(access, headers, address)
    agent, client = access.admit(identity, "agents", name, Headers(headers), address)
    assert agent.name == name
    return client


def rejection(access: Access, name: str, headers: dict[str, str], peer: str = PEER) -> RequestError:
    """The error for a request that is not allowed."""
    with pytest.raises(RequestError) as error:
        admit(access, name, headers, peer)
    return error.value


def test_key_of_a_namespace_calls_every_agent_in_it(create: Callable[..., Access]) -> None:
    for name in ("public", "private", "other"):
        assert admit(create(), name, bearer(KEY)) == Client("key/agents.site", "agents.site", PEER)


def test_key_of_an_agent_calls_that_agent_only(create: Callable[..., Access]) -> None:
    assert admit(create(), "private", bearer(AGENT_KEY)).key_id == "agents.private.app"
    for name in ("public", "other", "broken", "missing"):
        assert rejection(create(), name, bearer(AGENT_KEY)).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        PAGE,
        PAGE | {"origin": "https://gateway.example"},
        {"x-publishable-key": "ios-2f7c9a1e"},
        bearer("wrong"),
        bearer(""),
        {"authorization": "Basic abc"},
        {"authorization": KEY},
        bearer(FOREIGN_KEY),
        PAGE | bearer(FOREIGN_KEY),
    ],
    ids=[
        "no key",
        "a page that may follow calls",
        "the gateway's own page",
        "publishable key of another agent",
        "wrong key",
        "empty key",
        "other scheme",
        "no scheme",
        "key of another namespace",
        "page with a key of another namespace",
    ],
)
def test_without_a_right_existing_and_missing_agents_look_the_same(
    create: Callable[..., Access], headers: dict[str, str]
) -> None:
    answers = {}
    for name in ("private", "broken", "missing"):
        error = rejection(create(), name, headers)
        answers[name] = (error.status, error.document(), error.headers())
        with pytest.raises(RequestError) as read:
            create().visible(identify(create(), headers, PEER), "agents", name)
        assert (read.value.status, read.value.document(), read.value.headers()) == answers[name]
    assert answers["private"] == answers["broken"] == answers["missing"]
    assert answers["missing"][0] == 401
    assert answers["missing"][2] == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("headers", [bearer("wrong"), bearer(FOREIGN_KEY), PAGE | bearer("wrong")])
def test_wrong_key_is_rejected_even_for_public_agents(create: Callable[..., Access], headers: dict[str, str]) -> None:
    error = rejection(create(), "public", headers)
    assert (error.status, error.reason) == (401, ErrorReason.UNAUTHORIZED)


def test_holder_of_a_right_learns_what_is_wrong_with_an_agent(create: Callable[..., Access]) -> None:
    missing, broken = (rejection(create(), name, bearer(KEY)) for name in ("missing", "broken"))
    assert (missing.status, missing.reason) == (404, ErrorReason.AGENT_NOT_FOUND)
    assert "kubectl get ava -n agents" in missing.message
    assert (broken.status, broken.reason) == (409, ErrorReason.AGENT_INVALID)
    assert "spec.language" in broken.message


def test_facts_are_visible_of_public_agents_and_to_keys(create: Callable[..., Access]) -> None:
    def visible(name: str, headers: dict[str, str]) -> Agent:
        return create().visible(identify(create(), headers, PEER), "agents", name)

    assert visible("public", {}).name == "public"
    assert visible("private", bearer(KEY)).name == "private"
    assert visible("private", bearer(AGENT_KEY)).name == "private"


def test_public_agent_requires_an_allowed_origin(create: Callable[..., Access]) -> None:
    host = {"host": "gateway.example"}
    assert admit(create(), "public", PAGE) == Client("public", "", PEER)
    assert admit(create(), "public", {**host, "origin": "https://gateway.example"}).scope == "public"
    for origin in ("https://www.example.com.evil", "http://www.example.com", "https://example.com", "null", ""):
        error = rejection(create(), "public", {**host, "origin": origin})
        assert (error.status, error.reason) == (403, ErrorReason.ORIGIN_NOT_ALLOWED)
    assert "Origin" in rejection(create(), "public", host).message


def test_page_under_an_unnamed_host_is_not_the_gateways_own(create: Callable[..., Access]) -> None:
    rebound = {"host": "rebound.evil", "origin": "http://rebound.evil"}
    error = rejection(create(), "public", rebound)
    assert (error.status, error.reason) == (403, ErrorReason.ORIGIN_NOT_ALLOWED)
    assert "gateway.hosts" in error.message
    assert admit(create(), "public", {"host": "localhost:8080", "origin": "http://localhost:8080"}).scope == "public"


def test_native_app_calls_with_a_publishable_key(create: Callable[..., Access]) -> None:
    client = admit(create(), "public", {"x-publishable-key": "ios-2f7c9a1e"})
    assert client == Client("public", "publishable/ios-2f7c9a1e", PEER)
    assert rejection(create(), "public", {"x-publishable-key": "ios-00000000"}).status == 401
    assert rejection(create(), "public", {"x-publishable-key": ""}).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_page_cannot_use_a_publishable_key_instead_of_its_origin(create: Callable[..., Access], origin: str) -> None:
    headers = {"x-publishable-key": "ios-2f7c9a1e", "origin": origin, "host": "gateway.example"}
    assert rejection(create(), "public", headers).reason is ErrorReason.ORIGIN_NOT_ALLOWED


@pytest.mark.parametrize("headers", [PAGE, {"x-publishable-key": "ios-2f7c9a1e"}], ids=["page", "app"])
def test_callers_without_a_secret_share_a_limit_by_address(
    create: Callable[..., Access], headers: dict[str, str]
) -> None:
    access = create(2, 60, 60)
    for _ in range(2):
        admit(access, "public", headers)
    error = rejection(access, "public", headers)
    assert (error.status, error.reason) == (429, ErrorReason.RATE_LIMITED)
    assert admit(access, "public", headers, "192.0.2.2").address == "192.0.2.2"
    assert admit(access, "public", bearer(KEY)).key_id == "agents.site", "a key has a limit of its own"


def test_walk_through_one_ipv6_64_reaches_the_limit(create: Callable[..., Access]) -> None:
    access, statuses = create(30, 60, 2000), []
    for number in range(1000):
        try:
            admit(access, "public", PAGE, f"2001:db8:1:2::{number:x}")
            statuses.append(201)
        except RequestError as error:
            statuses.append(error.status)
    assert (statuses.count(201), statuses.count(429)) == (30, 970)


def test_forged_forwarded_entries_do_not_evade_the_limit(create: Callable[..., Access]) -> None:
    access = create(1, 60, 60, proxy_hops=1)
    admit(access, "public", PAGE | {"x-forwarded-for": "203.0.113.7"})
    forged = PAGE | {"x-forwarded-for": "198.51.100.9, [2001:db8::9]:1, 203.0.113.7:4711"}
    assert rejection(access, "public", forged).status == 429
    assert admit(access, "public", PAGE | {"x-forwarded-for": "203.0.113.8"}).address == "203.0.113.8"


def test_guessed_keys_count_against_the_address(create: Callable[..., Access]) -> None:
    access = create(2, 60, 60)
    statuses = [rejection(access, "private", bearer(f"guess-{number}")).status for number in range(4)]
    assert statuses == [401, 401, 429, 429]
    assert admit(access, "private", bearer(KEY)).key_id == "agents.site", (
        "the holder of a key shares no limit with those who guess"
    )


def test_each_key_has_a_limit(create: Callable[..., Access]) -> None:
    access = create(60, 2, 60)
    for _ in range(2):
        admit(access, "private", bearer(KEY))
    assert "This key" in rejection(access, "private", bearer(KEY)).message
    assert rejection(access, "private", bearer(KEY), "192.0.2.2").status == 429, "from any address"
    assert admit(access, "private", bearer(AGENT_KEY)).key_id == "agents.private.app"


def test_each_agent_has_a_limit(create: Callable[..., Access]) -> None:
    access = create(60, 60, 2)
    admit(access, "private", bearer(KEY))
    admit(access, "private", bearer(AGENT_KEY), "192.0.2.2")
    assert "this agent" in rejection(access, "private", bearer(KEY)).message
    assert admit(access, "other", bearer(KEY)).key_id == "agents.site"


def test_requests_without_a_right_do_not_use_up_an_agents_limit(create: Callable[..., Access]) -> None:
    access = create(60, 60, 1)
    for headers in ({}, bearer("wrong"), bearer(FOREIGN_KEY), PAGE):
        assert rejection(access, "private", headers).status == 401
    assert rejection(access, "public", {"origin": "https://evil.example"}).status == 403
    assert admit(access, "private", bearer(KEY)).key_id == "agents.site"
    assert admit(access, "public", PAGE).scope == "public"


@pytest.mark.parametrize("key", ["short", "x" * 129, "with space in the key", "ключ-длинный-достаточно", ""])
def test_invalid_idempotency_key_is_rejected(key: str) -> None:
    with pytest.raises(RequestError, match="UUID"):
        idempotency_key({"idempotency-key": key})


def test_idempotency_key_is_optional() -> None:
    assert idempotency_key({}) is None
    assert idempotency_key({"idempotency-key": "one-and-the-same"}) == "one-and-the-same"
