"""Who may call an agent: holders of an API key, and for Public agents the pages of allowed origins."""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from agentspec import DispatchAccess
from gateway.agents import Agent
from gateway.errors import ErrorReason, RequestError

MIN_API_KEY_LENGTH = 16
KEY_RELOAD_SECONDS = 1.0
"""How long a changed key file may go unnoticed."""
MAX_ADDRESSES = 10_000
"""Addresses remembered by the rate limit; the longest unseen are forgotten first."""
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{16,128}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Client:
    """Who asks, as far as it matters."""

    scope: str
    """Whose idempotency keys these are: ``key/<id>`` or ``public``."""


class ApiKeys:
    """API keys from a folder: one file a key, named by the key's id. Only their hashes are kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._hashes: dict[str, bytes] = {}
        self._signature: object = None
        self._checked_at = float("-inf")

    def identify(self, key: str) -> str | None:
        """The id of a key; every known one is compared, each in constant time."""
        self._reload()
        digest = hashlib.sha256(key.encode()).digest()
        found = [key_id for key_id, known in self._hashes.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None

    def _reload(self) -> None:
        if self._folder is None or time.monotonic() - self._checked_at < KEY_RELOAD_SECONDS:
            return
        self._checked_at = time.monotonic()
        try:
            # A mounted Secret shows its keys as links into a folder `..data`, which is replaced as a whole.
            files = sorted(path for path in self._folder.iterdir() if not path.name.startswith(".") and path.is_file())
            signature = [(path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in files]
            if signature == self._signature:
                return
            self._hashes = dict(filter(None, (_hashed(path) for path in files)))
        except OSError as error:
            logger.error("API keys unreadable, those read before stay valid", extra={"error": type(error).__name__})
            return
        self._signature = signature
        logger.info("API keys read", extra={"ids": sorted(self._hashes)})


def _hashed(path: Path) -> tuple[str, bytes] | None:
    key = path.read_text(errors="replace").strip()
    if len(key) < MIN_API_KEY_LENGTH:
        logger.error("API key ignored, it is too short", extra={"id": path.name, "shortest": MIN_API_KEY_LENGTH})
        return None
    return path.name, hashlib.sha256(key.encode()).digest()


class RateLimit:
    """A token bucket for each address."""

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / 60
        self._burst = float(per_minute)
        self._buckets: dict[str, tuple[float, float]] = {}

    def take_token(self, address: str, now: float) -> float:
        """Take one token; 0 when there was one, otherwise the seconds until there is."""
        tokens, at = self._buckets.pop(address, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        allowed = tokens >= 1
        self._buckets[address] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > MAX_ADDRESSES:
            self._buckets.pop(next(iter(self._buckets)))
        return 0.0 if allowed else (1 - tokens) / self._rate


class Access:
    """Decides whether a request may call an agent."""

    def __init__(self, keys: ApiKeys, limit: RateLimit, proxy_hops: int) -> None:
        self._keys = keys
        self._limit = limit
        self._proxy_hops = proxy_hops

    def check(self, agent: Agent, headers: Headers, peer: str) -> Client:
        """Who asks.

        Raises:
            RequestError: 401, 403 or 429.
        """
        if "authorization" in headers:
            key_id = self._keys.identify(bearer_token(headers))
            if key_id is None:
                message = "The API key is not valid: send `Authorization: Bearer <key>` with a key of this gateway."
                raise RequestError(401, ErrorReason.UNAUTHORIZED, message)
            return Client(f"key/{key_id}")
        if agent.spec.dispatch.access is DispatchAccess.AUTHENTICATED:
            message = f"The agent {agent.name} needs an API key: send `Authorization: Bearer <key>`."
            raise RequestError(401, ErrorReason.UNAUTHORIZED, message)
        self._check_origin(agent, headers)
        wait = self._limit.take_token(client_address(headers, peer, self._proxy_hops), time.monotonic())
        if wait:
            message = "Too many calls from this address: try again later."
            raise RequestError(429, ErrorReason.RATE_LIMITED, message, retry_after_seconds=int(wait) + 1)
        return Client("public")

    def _check_origin(self, agent: Agent, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin", "")
        if origin and (is_own_origin(origin, headers.get("host", "")) or origin in agent.spec.dispatch.allowed_origins):
            return
        message = (
            f"Pages of {origin} may not call the agent {agent.name}: add this origin to spec.dispatch.allowedOrigins."
            if origin
            else f"Only pages may call the agent {agent.name} without an API key, and they send the header Origin: "
            "send `Authorization: Bearer <key>`."
        )
        raise RequestError(403, ErrorReason.ORIGIN_NOT_ALLOWED, message)


def bearer_token(headers: Mapping[str, str]) -> str:
    """The token of an Authorization header; empty when there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_own_origin(origin: str, host: str) -> bool:
    """Whether an origin is the address this very request was sent to."""
    try:
        parts = urlsplit(origin)
        default = {"http": 80, "https": 443}.get(parts.scheme)
        target = urlsplit(f"//{host}")
        return bool(default and parts.hostname) and (parts.hostname, parts.port or default) == (
            target.hostname,
            target.port or default,
        )
    except ValueError:
        return False


def client_address(headers: Headers, peer: str, proxy_hops: int) -> str:
    """The caller's address: the entry that the outermost trusted proxy appended, or the peer's own.

    Some proxies append to the header's line, others add a line of their own behind it: all lines are one list, in their
    order (RFC 9110, 5.3).
    """
    if proxy_hops == 0:
        return peer
    lines = ",".join(headers.getlist("x-forwarded-for"))
    entries = [entry.strip() for entry in lines.split(",") if entry.strip()]
    return entries[-proxy_hops] if len(entries) >= proxy_hops else peer


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The Idempotency-Key of a request.

    Raises:
        RequestError: 400, it is too short to be unguessable, too long, or not printable.
    """
    key = headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = "Idempotency-Key has to be 16 to 128 visible ASCII characters: a UUID is right."
        raise RequestError(400, ErrorReason.INVALID_REQUEST, message)
    return key
