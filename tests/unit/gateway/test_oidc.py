"""Tokens of OpenID Connect issuers: what makes one valid, and attacks that must fail."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from gateway.api.keys import Grant
from gateway.api.oidc import LEEWAY_SECONDS, MAX_TOKEN_LENGTH, Tokens
from gateway.errors import ErrorReason, RequestError
from gateway.settings import OidcIssuer
from tests.unit.gateway.fakes import FakeIssuer

ISSUER = "https://login.example.com"
JWKS = "https://login.example.com/keys"
AUDIENCE = "avatar-agent"
Key = RSAKey | ECKey | OKPKey
KEYS: dict[str, Key] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "okp"}),
}
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})
ENTRY = OidcIssuer(issuer=ISSUER, audience=AUDIENCE, namespaces=("agents",))


def public_keys(*keys: Key) -> dict[str, object]:
    """JWKS document of these keys."""
    return dict(KeySet(list(keys)).as_dict(private=False))


def issuer_server() -> FakeIssuer:
    """Server of the issuer, with its configuration and its public keys."""
    configuration = {"issuer": ISSUER, "jwks_uri": JWKS}
    return FakeIssuer({f"{ISSUER}/.well-known/openid-configuration": configuration, JWKS: public_keys(*KEYS.values())})


@dataclass(frozen=True)
class In:
    """A time so many seconds from now."""

    seconds: int


def claims(**changed: object) -> dict[str, object]:
    """Claims of a token that is valid for a day; a changed claim of None is left out."""
    full: dict[str, object] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "website", "iat": In(0), "exp": In(86400)}
    now = int(time.time())
    timed = {name: now + value.seconds if isinstance(value, In) else value for name, value in (full | changed).items()}
    return {name: value for name, value in timed.items() if value is not None}


def signed(
    payload: dict[str, object],
    algorithm: str = "RS256",
    key: Key | None = None,
    **header: object,
) -> str:
    """Token with this payload, signed by the issuer or with another key."""
    key = KEYS[algorithm] if key is None else key
    return jwt.encode({"alg": algorithm, "kid": key.kid, **header}, payload, key, algorithms=[algorithm])


def forged(header: dict[str, object], payload: dict[str, object], secret: bytes | None = None) -> str:
    """Token that no library would make: unsigned, or with an HMAC of `secret`."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, payload)]
    text = b".".join(parts)
    signature = hmac.new(secret, text, hashlib.sha256).digest() if secret is not None else b""
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.fixture
def tokens() -> Tokens:
    """Tokens of one issuer for the namespace `agents`."""
    return Tokens([ENTRY], issuer_server().fetch)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "Ed25519"])
async def test_token_of_the_issuer_may_call_its_namespace(tokens: Tokens, algorithm: str) -> None:
    key = KEYS["RS256"] if algorithm == "PS256" else KEYS[algorithm]
    identity = await tokens.identify(signed(claims(), algorithm, key))
    assert identity is not None
    assert (identity.key_id, identity.grants) == ("website", (Grant("agents"),))
    assert identity.may_call("agents", "any")
    assert not identity.may_call("shop", "any")


@pytest.mark.parametrize(
    "token",
    [
        forged({"alg": "none"}, claims()),
        forged({"alg": "none", "kid": "rsa"}, claims()),
        forged({"alg": "None", "kid": "rsa"}, claims()),
        forged({"alg": "HS256", "kid": "rsa"}, claims(), KEYS["RS256"].as_pem(private=False)),
        forged({"alg": "HS256", "kid": "rsa"}, claims(), json.dumps(KEYS["RS256"].as_dict(private=False)).encode()),
        forged({"alg": "HS256", "kid": "rsa"}, claims(), b""),
        forged({"alg": "RS256", "kid": "rsa"}, claims()),
        signed(claims(), key=STRANGER),
        signed(claims(), key=STRANGER, jwk=STRANGER.as_dict(private=False)),
        signed(claims(), key=STRANGER, jku="https://evil.example/keys"),
        signed(claims(), key=RSAKey.generate_key(2048, {"kid": "unknown"})),
        forged({"alg": "RS256", "kid": ["rsa"]}, claims()),
        signed(claims()).rsplit(".", 1)[0] + ".",
        signed(claims(sub="admin")).rsplit(".", 1)[0] + "." + signed(claims()).rsplit(".", 1)[1],
        forged({"alg": "RS256", "kid": "rsa", "crit": ["x"]}, claims()),
    ],
    ids=[
        "alg none",
        "alg none with a key id",
        "alg None",
        "HS256 with the public key as PEM",
        "HS256 with the public key as JWK",
        "HS256 with an empty secret",
        "no signature",
        "key of a stranger",
        "key of a stranger in the header",
        "URL of a stranger's keys in the header",
        "unknown key id",
        "key id that is no text",
        "signature removed",
        "signature of another token",
        "unknown critical header",
    ],
)
async def test_token_that_the_issuer_did_not_sign_is_not_valid(tokens: Tokens, token: str) -> None:
    assert await tokens.identify(token) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": In(-LEEWAY_SECONDS - 1)},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": In(3600)},
        {"iat": In(3600)},
        {"aud": "another-service"},
        {"aud": ["another-service", "avatar"]},
        {"aud": []},
        {"aud": None},
        {"iss": "https://login.example.com/"},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "line\nbreak"},
    ],
    ids=lambda changed: next(f"{name} {str(value)[:24]!r}" for name, value in changed.items()),
)
async def test_token_with_a_wrong_claim_is_not_valid(tokens: Tokens, changed: dict[str, object]) -> None:
    assert await tokens.identify(signed(claims(**changed))) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["another-service", AUDIENCE]},
        {"exp": In(20 - LEEWAY_SECONDS)},
        {"nbf": In(LEEWAY_SECONDS)},
        {"iat": None},
    ],
    ids=["one of several audiences", "just expired", "valid in a moment", "no time of issue"],
)
async def test_token_within_the_limits_is_valid(tokens: Tokens, changed: dict[str, object]) -> None:
    assert await tokens.identify(signed(claims(**changed))) is not None


async def test_audience_decides_what_a_token_may_call() -> None:
    entries = [
        OidcIssuer(issuer=ISSUER, audience="team-a", namespaces=("a",)),
        OidcIssuer(issuer=ISSUER, audience="team-b", agents=("b/ornina",)),
    ]
    tokens = Tokens(entries, issuer_server().fetch)
    granted = {}
    for audience in ("team-a", "team-b"):
        identity = await tokens.identify(signed(claims(aud=audience)))
        assert identity is not None
        granted[audience] = identity.grants
    assert granted == {"team-a": (Grant("a"),), "team-b": (Grant("b", "ornina"),)}
    both = await tokens.identify(signed(claims(aud=["team-a", "team-b"])))
    assert both is not None
    assert both.grants == (Grant("a"), Grant("b", "ornina"))


async def test_key_of_one_issuer_does_not_sign_for_another() -> None:
    other = "https://other.example"
    server = issuer_server()
    server.documents[f"{other}/keys"] = public_keys(STRANGER)
    entries = [ENTRY, OidcIssuer(issuer=other, audience=AUDIENCE, namespaces=("shop",), jwksURL=f"{other}/keys")]
    tokens = Tokens(entries, server.fetch)
    assert await tokens.identify(signed(claims(), key=STRANGER)) is None
    identity = await tokens.identify(signed(claims(iss=other), key=STRANGER))
    assert identity is not None
    assert identity.grants == (Grant("shop"),)
    same_subject = await tokens.identify(signed(claims()))
    assert same_subject is not None
    assert same_subject.scope != identity.scope


async def test_text_that_is_no_token_fetches_nothing() -> None:
    server = issuer_server()
    tokens = Tokens([ENTRY], server.fetch)
    for text in ("", "a-long-enough-api-key", "a.b.c", "..", "ключ", signed(claims(iss="https://evil.example"))):
        assert await tokens.identify(text) is None
    deep = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    assert await tokens.identify(f"{deep}.{deep}.x") is None
    assert await tokens.identify(signed(claims(note="x" * MAX_TOKEN_LENGTH))) is None
    assert server.fetched == []


TOKEN = signed(claims())
SEGMENT = st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda part: st.lists(part, max_size=3)
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]), JSON | st.just("RS256"))


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(max_size=60)
    | st.lists(SEGMENT, min_size=2, max_size=5).map(".".join)
    | st.builds(lambda header: forged(header, claims(), b"x"), HEADERS)
    | st.builds(lambda at, char: TOKEN[:at] + char + TOKEN[at + 1 :], st.integers(0, len(TOKEN) - 4), st.characters())
)
async def test_no_other_text_is_a_token_or_an_error(text: str) -> None:
    if text != TOKEN:
        assert await Tokens([ENTRY], issuer_server().fetch).identify(text) is None


async def test_token_is_answered_503_while_the_issuer_was_never_reached() -> None:
    server = issuer_server()
    server.is_reachable = False
    with pytest.raises(RequestError) as rejected:
        await Tokens([ENTRY], server.fetch).identify(TOKEN)
    error = rejected.value
    assert (error.status, error.reason) == (503, ErrorReason.ISSUER_UNREACHABLE)
    assert error.headers()["Retry-After"] == "10"


async def test_without_issuers_no_token_is_valid() -> None:
    def fail(url: str) -> Any:  # noqa: ANN401 - it never returns
        raise AssertionError(url)

    never: Callable[[str], Any] = fail
    assert await Tokens([], never).identify(TOKEN) is None
