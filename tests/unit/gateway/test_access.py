"""API keys, origins, client addresses and the rate limit."""

from pathlib import Path

import pytest
from starlette.datastructures import Headers

from gateway.agents import Agent
from gateway.api.access import (
    Access,
    ApiKeys,
    RateLimit,
    client_address,
    idempotency_key,
    is_own_origin,
)
from gateway.errors import ErrorReason, RequestError
from tests.unit.gateway.fakes import example_agent

KEY = "a-long-enough-api-key"
PEER = "192.0.2.1"
PUBLIC = example_agent(allowed_origins=["https://www.example.com"])
PRIVATE = example_agent(access="Authenticated")


def create_access(folder: Path | None = None, per_minute: int = 60) -> Access:
    """Access control without proxies."""
    return Access(ApiKeys(folder), RateLimit(per_minute), 0)


def scope(access: Access, agent: Agent, headers: dict[str, str], peer: str = PEER) -> str:
    """Scope of the client that sent a request."""
    return access.check(agent, Headers(headers), peer).scope


def rejection(access: Access, agent: Agent, headers: dict[str, str]) -> RequestError:
    """The error for a request that is not allowed."""
    with pytest.raises(RequestError) as error:
        scope(access, agent, headers)
    return error.value


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with one key, like a mounted Secret."""
    (tmp_path / "website").write_text(f"{KEY}\n")
    (tmp_path / "..data").write_text("not-a-key-but-a-file-of-the-mount")
    return tmp_path


def test_key_is_valid_for_every_agent_and_identifies_the_client(keys: Path) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    assert scope(create_access(keys), PRIVATE, headers) == "key/website"
    assert scope(create_access(keys), PUBLIC, headers) == "key/website"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer wrong",
        "Bearer ",
        "Basic abc",
        KEY,
        "Bearer not-a-key-but-a-file-of-the-mount",
        f"Bearer {KEY}x",
    ],
)
def test_wrong_key_is_rejected_even_for_public_agents(keys: Path, authorization: str) -> None:
    headers = {"authorization": authorization, "origin": "https://www.example.com"}
    for agent in (PRIVATE, PUBLIC):
        error = rejection(create_access(keys), agent, headers)
        assert (error.status, error.reason) == (401, ErrorReason.UNAUTHORIZED)


def test_no_key_is_valid_without_a_folder() -> None:
    assert rejection(create_access(), PRIVATE, {"authorization": "Bearer "}).status == 401
    assert rejection(create_access(), PRIVATE, {"origin": "https://www.example.com"}).status == 401


def test_changed_keys_are_reloaded_and_short_keys_ignored(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.access.KEY_RELOAD_SECONDS", -1.0)
    api_keys = ApiKeys(keys)
    assert api_keys.identify(KEY) == "website"
    (keys / "website").unlink()
    (keys / "short").write_text("too-short")
    (keys / "mobile").write_text("another-long-enough-key")
    assert api_keys.identify(KEY) is None
    assert api_keys.identify("too-short") is None
    assert api_keys.identify("another-long-enough-key") == "mobile"


def test_loaded_keys_stay_valid_when_the_folder_is_unreadable(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.access.KEY_RELOAD_SECONDS", -1.0)
    api_keys = ApiKeys(keys)
    assert api_keys.identify(KEY) == "website"
    for path in keys.iterdir():
        path.unlink()
    keys.rmdir()
    assert api_keys.identify(KEY) == "website"


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:8080", "localhost:8080", True),
        ("https://calls.example", "calls.example", True),
        ("https://calls.example", "calls.example:443", True),
        ("http://calls.example:80", "calls.example", True),
        ("https://CALLS.example", "calls.EXAMPLE", True),
        ("https://calls.example", "other.example", False),
        ("https://calls.example:8443", "calls.example", False),
        ("https://calls.example.evil", "calls.example", False),
        ("null", "calls.example", False),
        ("https://", "", False),
        ("https://[", "calls.example", False),
        ("https://calls.example:x", "calls.example", False),
    ],
)
def test_own_origin_matches_the_host_header(origin: str, host: str, own: bool) -> None:
    assert is_own_origin(origin, host) is own


def test_public_agent_requires_an_allowed_origin() -> None:
    access = create_access()
    host = {"host": "gateway.example"}
    assert scope(access, PUBLIC, {**host, "origin": "https://www.example.com"}) == "public"
    assert scope(access, PUBLIC, {**host, "origin": "https://gateway.example"}) == "public"
    for origin in ("https://www.example.com.evil", "http://www.example.com", "https://example.com", "null", ""):
        error = rejection(access, PUBLIC, {**host, "origin": origin})
        assert (error.status, error.reason) == (403, ErrorReason.ORIGIN_NOT_ALLOWED)
    assert "Origin" in rejection(access, PUBLIC, host).message


def test_rate_limit_applies_to_each_address() -> None:
    access = create_access(per_minute=2)
    headers = {"origin": "https://www.example.com", "host": "gateway.example"}
    for _ in range(2):
        scope(access, PUBLIC, headers)
    error = rejection(access, PUBLIC, headers)
    assert (error.status, error.reason) == (429, ErrorReason.RATE_LIMITED)
    assert 1 <= error.retry_after_seconds <= 31
    assert int(error.headers()["Retry-After"]) == error.retry_after_seconds
    assert scope(access, PUBLIC, headers, "192.0.2.2") == "public"


def test_bucket_refills_up_to_its_size() -> None:
    limit = RateLimit(60)
    assert [limit.take_token("a", 0.0) for _ in range(60)] == [0.0] * 60
    assert limit.take_token("a", 0.0) == pytest.approx(1.0)
    assert limit.take_token("a", 1.0) == 0.0
    assert [limit.take_token("a", 1000.0) for _ in range(60)] == [0.0] * 60
    assert limit.take_token("a", 1000.0) > 0


def test_rate_limit_tracks_a_bounded_number_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.access.MAX_ADDRESSES", 3)
    limit = RateLimit(1)
    for address in "abcd":
        limit.take_token(address, 0.0)
    assert limit.take_token("d", 0.0) > 0
    assert limit.take_token("a", 0.0) == 0.0, "the least recently used was evicted"


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, "203.0.113.9", PEER),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "203.0.113.9", PEER),
        (1, "", PEER),
    ],
)
def test_client_address_comes_from_trusted_proxies_only(hops: int, forwarded: str, address: str) -> None:
    assert client_address(Headers({"x-forwarded-for": forwarded}), PEER, hops) == address


@pytest.mark.parametrize(("hops", "address"), [(1, "198.51.100.1"), (2, "203.0.113.9"), (3, "6.6.6.6"), (4, PEER)])
def test_proxy_may_add_a_header_line_of_its_own(hops: int, address: str) -> None:
    lines = [b"6.6.6.6", b"203.0.113.9, 198.51.100.1"]
    headers = Headers(raw=[(b"x-forwarded-for", line) for line in lines])
    assert client_address(headers, PEER, hops) == address


@pytest.mark.parametrize("key", ["short", "x" * 129, "with space in the key", "ключ-длинный-достаточно", ""])
def test_invalid_idempotency_key_is_rejected(key: str) -> None:
    with pytest.raises(RequestError, match="UUID"):
        idempotency_key({"idempotency-key": key})


def test_idempotency_key_is_optional() -> None:
    assert idempotency_key({}) is None
    assert idempotency_key({"idempotency-key": "one-and-the-same"}) == "one-and-the-same"
