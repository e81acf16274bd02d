"""The keys of issuers: fetched within a bound, cached, and used while the issuer is unreachable."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.api import jwks
from gateway.api.jwks import (
    FRESH_SECONDS,
    MAX_DOCUMENT_BYTES,
    MAX_STALE_SECONDS,
    RETRY_SECONDS,
    FetchError,
    FetchJson,
    KeysUnavailable,
    SigningKeys,
    fetcher,
)
from tests.unit.gateway.fakes import Clock, FakeIssuer
from tests.unit.gateway.test_oidc import ENTRY, ISSUER, JWKS, KEYS, STRANGER, issuer_server, public_keys

CONFIGURATION = f"{ISSUER}/.well-known/openid-configuration"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(jwks, "time", found)
    return found


async def key_ids(keys: SigningKeys, wanted: str | None = "rsa") -> set[str | None]:
    """Ids of the keys that a token with this key id is checked with, after every fetch has ended."""
    found = await keys.find(wanted)
    await asyncio.sleep(0)
    return {key.kid for key in found}


async def test_keys_are_fetched_once_and_cached(clock: Clock) -> None:
    server = issuer_server()
    keys = SigningKeys(ENTRY, server.fetch)
    for _ in range(3):
        assert await key_ids(keys) == {"rsa", "ec", "okp"}
        clock.now += FRESH_SECONDS / 4
    assert server.fetched == [CONFIGURATION, JWKS]


async def test_concurrent_tokens_share_one_fetch(clock: Clock) -> None:
    server = issuer_server()
    keys = SigningKeys(ENTRY, server.fetch)
    await asyncio.gather(*(keys.find("rsa") for _ in range(50)))
    assert server.fetched == [CONFIGURATION, JWKS]


async def test_configured_url_of_the_keys_needs_no_discovery(clock: Clock) -> None:
    server = issuer_server()
    await SigningKeys(ENTRY.model_copy(update={"jwks_url": JWKS}), server.fetch).find("rsa")
    assert server.fetched == [JWKS]


async def test_stale_keys_serve_at_once_while_the_issuer_is_unreachable(clock: Clock) -> None:
    server = issuer_server()
    keys = SigningKeys(ENTRY, server.fetch)
    await keys.find("rsa")
    server.is_reachable = False
    while clock.now < 1000 + MAX_STALE_SECONDS - 3600:
        clock.now += 3600
        assert await key_ids(keys) == {"rsa", "ec", "okp"}
    clock.now = 1000 + MAX_STALE_SECONDS + 1
    with pytest.raises(KeysUnavailable):
        await keys.find("rsa")


async def test_stale_keys_do_not_wait_for_an_issuer_that_hangs(clock: Clock) -> None:
    server, released = issuer_server(), asyncio.Event()
    keys = SigningKeys(ENTRY, server.fetch)
    await keys.find("rsa")

    async def hang(url: str) -> object:
        await released.wait()
        raise FetchError(url)

    keys._fetch = hang
    clock.now += FRESH_SECONDS
    async with asyncio.timeout(5):
        assert await key_ids(keys) == {"rsa", "ec", "okp"}
    released.set()


async def test_first_fetch_from_an_issuer_that_hangs_is_bounded(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.01)

    async def hang(url: str) -> object:
        return await asyncio.Event().wait()

    with pytest.raises(KeysUnavailable):
        await SigningKeys(ENTRY, hang).find("rsa")
    (record,) = [record.__dict__ for record in caplog.records if record.name == "gateway.api.jwks"]
    assert (record["url"], record["error"]) == (ISSUER, "TimeoutError")


async def test_new_key_is_found_and_a_withdrawn_one_is_not(clock: Clock) -> None:
    server = issuer_server()
    keys = SigningKeys(ENTRY, server.fetch)
    await keys.find("rsa")
    server.documents[JWKS] = public_keys(KEYS["ES256"])
    clock.now += RETRY_SECONDS
    assert await key_ids(keys, "new") == {"ec"}, "an unknown key id fetches at once"
    assert await key_ids(keys, "rsa") == {"ec"}


async def test_unknown_key_ids_fetch_at_most_once_in_a_while(clock: Clock) -> None:
    server = issuer_server()
    keys = SigningKeys(ENTRY, server.fetch)
    for number in range(1000):
        await keys.find(f"made-up-{number}")
    assert server.fetched == [CONFIGURATION, JWKS]
    clock.now += RETRY_SECONDS
    await keys.find("made-up")
    assert len(server.fetched) == 4


async def test_unreachable_issuer_is_asked_at_most_once_in_a_while(clock: Clock) -> None:
    server = FakeIssuer()
    keys = SigningKeys(ENTRY, server.fetch)
    for _ in range(100):
        with pytest.raises(KeysUnavailable):
            await keys.find("rsa")
    assert server.fetched == [CONFIGURATION]
    server.documents = issuer_server().documents
    clock.now += RETRY_SECONDS
    assert await key_ids(keys) == {"rsa", "ec", "okp"}


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": "https://evil.example", "jwks_uri": JWKS},
        {"issuer": ISSUER, "jwks_uri": "http://login.example.com/keys"},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": 7},
        [],
    ],
    ids=["another issuer", "without https", "no keys", "no text", "no object"],
)
async def test_configuration_that_cannot_be_trusted_is_rejected(clock: Clock, configuration: object) -> None:
    server = issuer_server()
    server.documents |= {CONFIGURATION: configuration, "http://login.example.com/keys": public_keys(STRANGER)}
    with pytest.raises(KeysUnavailable):
        await SigningKeys(ENTRY, server.fetch).find("rsa")
    assert server.fetched == [CONFIGURATION]


async def test_keys_that_are_not_for_signatures_are_left_out(clock: Clock) -> None:
    server, rsa = issuer_server(), KEYS["RS256"].as_dict(private=False)
    server.documents[JWKS] = {
        "keys": [
            rsa,
            rsa | {"kid": "encryption", "use": "enc"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
            {"kty": "RSA", "kid": "broken"},
            {"kty": "unknown", "kid": "future"},
            "no object",
        ]
    }
    assert await key_ids(SigningKeys(ENTRY, server.fetch)) == {"rsa"}


@pytest.mark.parametrize("document", [{}, {"keys": []}, {"keys": 7}, [], "text", {"keys": [{"kty": "oct", "k": "eA"}]}])
async def test_document_without_keys_does_not_replace_cached_ones(clock: Clock, document: object) -> None:
    server = issuer_server()
    keys = SigningKeys(ENTRY, server.fetch)
    await keys.find("rsa")
    server.documents[JWKS] = document
    clock.now += FRESH_SECONDS
    assert await key_ids(keys) == await key_ids(keys) == {"rsa", "ec", "okp"}
    assert server.fetched == [CONFIGURATION, JWKS] * 2


BODIES = {
    "/good": b'{"keys": []}',
    "/text": b"<html>",
    "/deep": b"[" * 100_000,
    "/large": b"{}" + b" " * MAX_DOCUMENT_BYTES,
}


async def answer(request: web.Request) -> web.Response:
    """Answer of an issuer's server, by path."""
    if request.path == "/redirect":
        raise web.HTTPFound("/good")
    return web.Response(body=BODIES.get(request.path, b"{}"), status=200 if request.path in BODIES else 503)


@pytest.fixture
async def fetch() -> AsyncIterator[FetchJson]:
    """Fetches paths from a real HTTP server."""
    app = web.Application()
    app.router.add_get("/{name}", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        fetch_json = fetcher(session)
        yield lambda path: fetch_json(str(server.make_url(path)))


async def test_document_is_fetched_as_json(fetch: FetchJson) -> None:
    assert await fetch("/good") == {"keys": []}


@pytest.mark.parametrize("path", ["/redirect", "/text", "/deep", "/large", "/unavailable"])
async def test_other_answer_is_an_error(fetch: FetchJson, path: str) -> None:
    with pytest.raises(FetchError):
        await fetch(path)


async def test_unreachable_server_is_an_error() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(FetchError, match="unreachable"):
            await fetcher(session)("http://127.0.0.1:1/keys")
