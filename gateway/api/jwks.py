"""The signing keys of one issuer of tokens: fetched over HTTP, cached, and used while the issuer is unreachable."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import aiohttp
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet

from gateway.settings import OidcIssuer

FRESH_SECONDS = 600.0
"""Age at which cached keys are stale and are fetched again."""
MAX_STALE_SECONDS = 24 * 3600.0
"""Age at which stale keys no longer serve: an issuer that has withdrawn a key may be unreachable on purpose."""
RETRY_SECONDS = 10.0
"""Shortest time between two fetches, whatever tokens arrive."""
FETCH_SECONDS = 5.0
"""Time limit for one fetch of the keys: a call waits for the first one."""
MAX_DOCUMENT_BYTES = 256 * 1024
_ASYMMETRIC: Final = ("RSA", "EC", "OKP")

FetchJson = Callable[[str], Awaitable[Any]]
"""Returns the JSON document at a URL; raises `FetchError`."""

logger = logging.getLogger(__name__)


class FetchError(Exception):
    """An issuer does not answer, or not with a usable document."""


class KeysUnavailable(Exception):
    """The keys that a token needs cannot be fetched now."""


class SigningKeys:
    """The public keys of one issuer."""

    def __init__(self, issuer: OidcIssuer, fetch: FetchJson) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._keys = KeySet([])
        self._fetched_at = self._attempted_at = float("-inf")
        self._attempt: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None) -> KeySet:
        """Return the keys, which have the key of this id unless the issuer does not publish it.

        Stale keys are returned at once, and fetched again in the background.

        Raises:
            KeysUnavailable: the issuer is unreachable, and no cached key has the id.
        """
        if self._has(key_id):
            if time.monotonic() - self._fetched_at >= FRESH_SECONDS:
                self._fetch_soon()
            return self._keys
        if (attempt := self._fetch_soon()) is not None:
            await asyncio.shield(attempt)
        if not self._has(key_id) and self._fetched_at < self._attempted_at:
            raise KeysUnavailable(self._issuer.issuer)
        return self._keys

    def _has(self, key_id: str | None) -> bool:
        usable = time.monotonic() - self._fetched_at < MAX_STALE_SECONDS
        return usable and (key_id is None or any(key.kid == key_id for key in self._keys))

    def _fetch_soon(self) -> asyncio.Task[None] | None:
        """Return the running fetch of the keys, or a new one; None when the last one is too recent."""
        if self._attempt is None and time.monotonic() - self._attempted_at >= RETRY_SECONDS:
            self._attempt = asyncio.create_task(self._refresh())
        return self._attempt

    async def _refresh(self) -> None:
        self._attempted_at = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                url = self._issuer.jwks_url or await self._discover()
                self._keys = _read_keys(await self._fetch(url))
            self._fetched_at = self._attempted_at
        except (FetchError, TimeoutError) as error:
            fields = {"url": self._issuer.issuer, "error": str(error) or type(error).__name__}
            logger.warning("could not fetch the keys of an issuer", extra=fields)
        finally:
            self._attempt = None

    async def _discover(self) -> str:
        """Return the URL of the keys, from the issuer's configuration (OpenID Connect Discovery 1.0, section 4)."""
        found = await self._fetch(f"{self._issuer.issuer.removesuffix('/')}/.well-known/openid-configuration")
        url = found.get("jwks_uri") if isinstance(found, dict) else None
        if not isinstance(url, str) or found.get("issuer") != self._issuer.issuer:
            raise FetchError("the configuration names another issuer, or no keys")
        if not url.startswith("https://"):
            raise FetchError("the configuration names keys without https")
        return url


def _read_keys(document: object) -> KeySet:
    """Return the public signing keys of a JWKS document. Other keys, and those that are not valid, are left out."""
    entries = document.get("keys") if isinstance(document, dict) else None
    keys = list(_valid_keys(entries if isinstance(entries, list) else ()))
    if not keys:
        raise FetchError("the document has no key for signatures")
    return KeySet(keys)


def _valid_keys(entries: Iterable[object]) -> Iterable[Any]:
    for entry in entries:
        if isinstance(entry, dict) and entry.get("kty") in _ASYMMETRIC and entry.get("use", "sig") == "sig":
            try:
                yield JWKRegistry.import_key(entry)
            except (JoseError, ValueError, TypeError):
                continue


def fetcher(session: aiohttp.ClientSession) -> FetchJson:
    """Return the function that fetches JSON documents of a bounded size. It follows no redirect."""

    async def fetch(url: str) -> Any:  # noqa: ANN401 - JSON
        try:
            async with session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise FetchError(f"{url} answered {response.status}")
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_DOCUMENT_BYTES:
                        raise FetchError(f"{url} answered more than {MAX_DOCUMENT_BYTES} bytes")
        except aiohttp.ClientError as error:
            raise FetchError(f"{url} is unreachable: {type(error).__name__}") from error
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise FetchError(f"{url} did not answer with JSON") from error

    return fetch
