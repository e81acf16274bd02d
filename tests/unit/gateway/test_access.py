"""Keys, origins, addresses and rates."""

from pathlib import Path

import pytest
from starlette.datastructures import Headers

from gateway.access import (
    Access,
    ApiKeys,
    RateLimit,
    client_address,
    idempotency_key,
    is_own_origin,
)
from gateway.agents import Agent
from gateway.errors import ErrorReason, RequestError
from tests.unit.gateway.fakes import example_agent

KEY = "a-long-enough-api-key"
PEER = "192.0.2.1"
PUBLIC = example_agent(allowed_origins=["https://www.example.com"])
PRIVATE = example_agent(access="Authenticated")


def access(folder: Path | None = None, per_minute: int = 60) -> Access:
    return Access(ApiKeys(folder), RateLimit(per_minute), 0)


def scope(found: Access, of: Agent, headers: dict[str, str], peer: str = PEER) -> str:
    return found.check(of, Headers(headers), peer).scope


def refusal(found: Access, of: Agent, headers: dict[str, str]) -> RequestError:
    with pytest.raises(RequestError) as refused:
        scope(found, of, headers)
    return refused.value


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "website").write_text(f"{KEY}\n")
    (tmp_path / "..data").write_text("not-a-key-but-a-mounted-secrets-own-file")
    return tmp_path


def test_a_key_opens_every_agent_and_names_its_holder(keys: Path) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    assert scope(access(keys), PRIVATE, headers) == "key/website"
    assert scope(access(keys), PUBLIC, headers) == "key/website"


@pytest.mark.parametrize(
    "authorization",
    ["Bearer wrong", "Bearer ", "Basic abc", KEY, "Bearer not-a-key-but-a-mounted-secrets-own-file", f"Bearer {KEY}x"],
)
def test_a_wrong_key_is_refused_even_where_none_is_needed(keys: Path, authorization: str) -> None:
    headers = {"authorization": authorization, "origin": "https://www.example.com"}
    for found in (PRIVATE, PUBLIC):
        problem = refusal(access(keys), found, headers)
        assert (problem.status, problem.reason) == (401, ErrorReason.UNAUTHORIZED)


def test_without_keys_nobody_has_one() -> None:
    assert refusal(access(), PRIVATE, {"authorization": "Bearer "}).status == 401
    assert refusal(access(), PRIVATE, {"origin": "https://www.example.com"}).status == 401


def test_changed_keys_are_noticed_and_short_ones_ignored(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.access.KEY_RELOAD_SECONDS", -1.0)
    found = ApiKeys(keys)
    assert found.identify(KEY) == "website"
    (keys / "website").unlink()
    (keys / "short").write_text("too-short")
    (keys / "mobile").write_text("another-long-enough-key")
    assert found.identify(KEY) is None
    assert found.identify("too-short") is None
    assert found.identify("another-long-enough-key") == "mobile"


def test_unreadable_keys_leave_the_known_ones_valid(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.access.KEY_RELOAD_SECONDS", -1.0)
    found = ApiKeys(keys)
    assert found.identify(KEY) == "website"
    for path in keys.iterdir():
        path.unlink()
    keys.rmdir()
    assert found.identify(KEY) == "website"


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
def test_own_origin(origin: str, host: str, own: bool) -> None:
    assert is_own_origin(origin, host) is own


def test_a_public_agent_is_for_its_origins() -> None:
    found = access()
    host = {"host": "gateway.example"}
    assert scope(found, PUBLIC, {**host, "origin": "https://www.example.com"}) == "public"
    assert scope(found, PUBLIC, {**host, "origin": "https://gateway.example"}) == "public"
    for origin in ("https://www.example.com.evil", "http://www.example.com", "https://example.com", "null", ""):
        problem = refusal(found, PUBLIC, {**host, "origin": origin})
        assert (problem.status, problem.reason) == (403, ErrorReason.ORIGIN_NOT_ALLOWED)
    assert "Origin" in refusal(found, PUBLIC, host).message


def test_calls_from_one_address_are_limited_and_others_are_not() -> None:
    found = access(per_minute=2)
    headers = {"origin": "https://www.example.com", "host": "gateway.example"}
    for _ in range(2):
        scope(found, PUBLIC, headers)
    problem = refusal(found, PUBLIC, headers)
    assert (problem.status, problem.reason) == (429, ErrorReason.RATE_LIMITED)
    assert 1 <= problem.retry_after_seconds <= 31
    assert int(problem.headers()["Retry-After"]) == problem.retry_after_seconds
    assert scope(found, PUBLIC, headers, "192.0.2.2") == "public"


def test_a_bucket_fills_again_up_to_its_size() -> None:
    limit = RateLimit(60)
    assert [limit.take_token("a", 0.0) for _ in range(60)] == [0.0] * 60
    assert limit.take_token("a", 0.0) == pytest.approx(1.0)
    assert limit.take_token("a", 1.0) == 0.0
    assert [limit.take_token("a", 1000.0) for _ in range(60)] == [0.0] * 60
    assert limit.take_token("a", 1000.0) > 0


def test_the_limit_remembers_a_bounded_number_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.access.MAX_ADDRESSES", 3)
    limit = RateLimit(1)
    for address in "abcd":
        limit.take_token(address, 0.0)
    assert limit.take_token("d", 0.0) > 0
    assert limit.take_token("a", 0.0) == 0.0, "the longest unseen was forgotten"


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
def test_only_trusted_proxies_say_who_calls(hops: int, forwarded: str, address: str) -> None:
    assert client_address(Headers({"x-forwarded-for": forwarded}), PEER, hops) == address


@pytest.mark.parametrize(("hops", "address"), [(1, "198.51.100.1"), (2, "203.0.113.9"), (3, "6.6.6.6"), (4, PEER)])
def test_a_proxy_that_adds_a_line_of_its_own_is_believed_like_one_that_appends(hops: int, address: str) -> None:
    lines = [b"6.6.6.6", b"203.0.113.9, 198.51.100.1"]
    headers = Headers(raw=[(b"x-forwarded-for", line) for line in lines])
    assert client_address(headers, PEER, hops) == address


@pytest.mark.parametrize("key", ["short", "x" * 129, "with space in the key", "ключ-длинный-достаточно", ""])
def test_an_idempotency_key_has_a_form(key: str) -> None:
    with pytest.raises(RequestError, match="UUID"):
        idempotency_key({"idempotency-key": key})


def test_an_idempotency_key_may_be_left_out() -> None:
    assert idempotency_key({}) is None
    assert idempotency_key({"idempotency-key": "one-and-the-same"}) == "one-and-the-same"
