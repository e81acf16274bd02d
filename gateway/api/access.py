"""Access control: API keys for every agent, and allowed origins with a rate limit for Public agents."""

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
"""Interval between two checks for changed key files."""
MAX_ADDRESSES = 10_000
"""Number of addresses that the rate limit tracks; it evicts the least recently used."""
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{16,128}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Client:
    """The authorized sender of a request."""

    scope: str
    """Namespace of the client's idempotency keys: ``key/<id>`` or ``public``."""


class ApiKeys:
    """API keys from a folder with one file for each key; the file name is the key's id. Only hashes stay in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._hashes: dict[str, bytes] = {}
        self._loaded_files: object = None
        self._checked_at = float("-inf")

    def identify(self, key: str) -> str | None:
        """Return the id of a valid key, or None. Compares with every known key, each in constant time."""
        self._reload()
        digest = hashlib.sha256(key.encode()).digest()
        found = [key_id for key_id, known in self._hashes.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None

    def _reload(self) -> None:
        if self._folder is None or time.monotonic() - self._checked_at < KEY_RELOAD_SECONDS:
            return
        self._checked_at = time.monotonic()
        try:
            # The keys of a mounted Secret are links into the folder `..data`, which the kubelet replaces as a whole.
            files = sorted(path for path in self._folder.iterdir() if not path.name.startswith(".") and path.is_file())
            current_files = [(path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in files]
            if current_files == self._loaded_files:
                return
            self._hashes = dict(filter(None, (_read_key(path) for path in files)))
        except OSError as error:
            logger.error("could not read API keys, keeping the previous ones", extra={"error": type(error).__name__})
            return
        self._loaded_files = current_files
        logger.info("API keys loaded", extra={"key_ids": sorted(self._hashes)})


def _read_key(path: Path) -> tuple[str, bytes] | None:
    """Return the id and the hash of the key in a file; None when the key is too short."""
    key = path.read_text(errors="replace").strip()
    if len(key) < MIN_API_KEY_LENGTH:
        logger.warning(
            "API key ignored, it is too short", extra={"key_id": path.name, "min_length": MIN_API_KEY_LENGTH}
        )
        return None
    return path.name, hashlib.sha256(key.encode()).digest()


class RateLimit:
    """A token bucket for each address."""

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / 60
        self._burst = float(per_minute)
        self._buckets: dict[str, tuple[float, float]] = {}

    def take_token(self, address: str, now: float) -> float:
        """Take one token. Return 0, or without a token the seconds until one is available."""
        tokens, at = self._buckets.pop(address, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        allowed = tokens >= 1
        self._buckets[address] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > MAX_ADDRESSES:
            self._buckets.pop(next(iter(self._buckets)))
        return 0.0 if allowed else (1 - tokens) / self._rate


class Access:
    """Decides whether the sender of a request may call an agent."""

    def __init__(self, keys: ApiKeys, limit: RateLimit, proxy_hops: int) -> None:
        self._keys = keys
        self._limit = limit
        self._proxy_hops = proxy_hops

    def check(self, agent: Agent, headers: Headers, peer: str) -> Client:
        """Return the client that sent a request.

        Raises:
            RequestError: 401, 403 or 429; the client may not call the agent now.
        """
        if "authorization" in headers:
            key_id = self._keys.identify(bearer_token(headers))
            if key_id is None:
                message = "The API key is not valid. Send `Authorization: Bearer <key>` with a key of this gateway."
                raise RequestError(401, ErrorReason.UNAUTHORIZED, message)
            return Client(f"key/{key_id}")
        if agent.spec.dispatch.access is DispatchAccess.AUTHENTICATED:
            message = f"Calls to the agent {agent.name} require an API key. Send `Authorization: Bearer <key>`."
            raise RequestError(401, ErrorReason.UNAUTHORIZED, message)
        self._check_origin(agent, headers)
        wait = self._limit.take_token(client_address(headers, peer, self._proxy_hops), time.monotonic())
        if wait:
            message = "This address has opened too many calls. Try again after the seconds in Retry-After."
            raise RequestError(429, ErrorReason.RATE_LIMITED, message, retry_after_seconds=int(wait) + 1)
        return Client("public")

    def _check_origin(self, agent: Agent, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin", "")
        if origin and (is_own_origin(origin, headers.get("host", "")) or origin in agent.spec.dispatch.allowed_origins):
            return
        message = (
            f"Pages from {origin} may not call the agent {agent.name}. Add the origin to spec.dispatch.allowedOrigins."
            if origin
            else f"The request has no Origin header, so it did not come from a browser page. To call the agent "
            f"{agent.name} from a back end, send `Authorization: Bearer <key>`."
        )
        raise RequestError(403, ErrorReason.ORIGIN_NOT_ALLOWED, message)


def bearer_token(headers: Mapping[str, str]) -> str:
    """Return the bearer token of the Authorization header; empty without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_own_origin(origin: str, host: str) -> bool:
    """Return whether an origin is the host that the request was sent to, so that the page is the gateway's own."""
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
    """Return the client's address: the entry that the outermost trusted proxy appended, or the peer's address.

    Some proxies append to the header line, others add another line. All lines together form one list, in their order
    (RFC 9110, 5.3).
    """
    if proxy_hops == 0:
        return peer
    lines = ",".join(headers.getlist("x-forwarded-for"))
    entries = [entry.strip() for entry in lines.split(",") if entry.strip()]
    return entries[-proxy_hops] if len(entries) >= proxy_hops else peer


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """Return the Idempotency-Key of a request, or None.

    Raises:
        RequestError: 400, the key is too short to be unguessable, too long, or has characters that are not visible.
    """
    key = headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = "The Idempotency-Key is not valid. Send 16 to 128 visible ASCII characters, for example a UUID."
        raise RequestError(400, ErrorReason.INVALID_REQUEST, message)
    return key
