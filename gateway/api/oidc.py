"""Tokens of OpenID Connect issuers, beside API keys. An issuer's tokens may call the agents that its entry lists."""

import json
from collections.abc import Sequence
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError

from gateway.api.jwks import FetchJson, KeysUnavailable, SigningKeys
from gateway.api.keys import Grant, Identity
from gateway.errors import ErrorReason, RequestError
from gateway.settings import OidcIssuer

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    "Ed25519",
)
"""Signatures with a private key only. An HMAC would make the public key a secret, and `none` is no signature."""
LEEWAY_SECONDS = 30
"""Difference between the clocks of an issuer and a gateway."""
MAX_TOKEN_LENGTH = 8192
MAX_SUBJECT_LENGTH = 255
"""OpenID Connect Core 1.0, section 2."""
RETRY_AFTER_SECONDS = 10

# Unknown header parameters are ignored, as RFC 7515 requires in section 4. Some issuers add their own.
_REGISTRY: Final = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
_NOT_VALID: Final = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What a text that is no valid token of a known issuer raises."""


class Tokens:
    """Identifies the holders of tokens."""

    def __init__(self, issuers: Sequence[OidcIssuer], fetch: FetchJson) -> None:
        self._issuers = issuers
        self._keys = {issuer.issuer: SigningKeys(issuer, fetch) for issuer in issuers}

    async def identify(self, token: str) -> Identity | None:
        """Return the holder of a valid token, or None. The token's subject is the key id.

        Raises:
            RequestError: 503, the issuer's keys cannot be fetched now.
        """
        if not self._issuers or len(token) > MAX_TOKEN_LENGTH:
            return None
        try:
            unverified = jws.extract_compact(token.encode(), registry=_REGISTRY)
            issuer, key_id = json.loads(unverified.payload)["iss"], unverified.headers().get("kid")
            keys = await self._keys[issuer].find(key_id)
            claims = jwt.decode(token, keys, registry=_REGISTRY).claims
            entries = [entry for entry in self._issuers if entry.issuer == issuer]
            _claims_of(entries).validate(claims)
        except KeysUnavailable as error:
            raise _unavailable() from error
        except _NOT_VALID:
            return None
        return _identity(entries, claims)


def _claims_of(entries: Sequence[OidcIssuer]) -> jwt.JWTClaimsRegistry:
    """Return the checks of the claims of one issuer's tokens. They include `nbf` and `iat` of tokens that have them."""
    return jwt.JWTClaimsRegistry(
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": entries[0].issuer},
        aud={"essential": True, "values": [entry.audience for entry in entries]},
        exp={"essential": True},
        sub={"essential": True},
    )


def _identity(entries: Sequence[OidcIssuer], claims: dict[str, Any]) -> Identity | None:
    """Return the holder of a token with valid claims; None when its subject is not fit for a log."""
    issuer, subject, audience = claims["iss"], claims["sub"], claims["aud"]
    if len(subject) > MAX_SUBJECT_LENGTH or not subject.isprintable():
        return None
    audiences = [audience] if isinstance(audience, str) else audience
    grants = tuple(grant for entry in entries if entry.audience in audiences for grant in _grants(entry))
    return Identity(subject, f"token/{issuer} {subject}", grants)


def _grants(entry: OidcIssuer) -> list[Grant]:
    agents = (agent.partition("/") for agent in entry.agents)
    return [Grant(namespace) for namespace in entry.namespaces] + [
        Grant(namespace, name) for namespace, _, name in agents
    ]


def _unavailable() -> RequestError:
    message = "The gateway cannot check the token, because its issuer is unreachable. Try again."
    return RequestError(503, ErrorReason.ISSUER_UNREACHABLE, message, retry_after_seconds=RETRY_AFTER_SECONDS)
