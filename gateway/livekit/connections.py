"""Connections to LiveKit servers, with the credentials from each agent's Secret."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET
from gateway.agents import Agent
from gateway.livekit.server import LiveKit, LiveKitServer, RequestObserver
from gateway.livekit.tokens import Credentials

SECRET_CACHE_SECONDS = 15.0
"""Age at which cached credentials are stale: they are used at once, and the Secret is read in the background."""
DOUBT_SECONDS = 30.0
"""Age at which a request waits for the read, so that the gateway uses a rotated key within this time. Only rarely used
credentials become so old."""
MAX_WAIT_SECONDS = 1.0
"""Longest time that a request waits for a read while it has cached credentials: a caller may be waiting."""
REFUSED_CACHE_SECONDS = 1.0
"""The same age after LiveKit rejected the credentials. It limits the reads of a Secret whose key is wrong."""


class SecretError(Exception):
    """The credentials are not available: a Secret or a key is missing, or the server's URL is not valid.

    The message is for the log and the operator, not for callers.
    """


class SecretsUnavailable(SecretError):
    """The API server does not return Secrets at the moment. Cached credentials stay in use."""


class SecretStore(Protocol):
    """A source of Secrets."""

    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the decoded values of those keys that the Secret has, within a bounded time.

        Raises:
            SecretError: the Secret does not exist or cannot be read.
        """


@dataclass(frozen=True)
class Connection:
    """An agent's LiveKit server, and the credentials that sign its tokens."""

    livekit: LiveKit
    credentials: Credentials


class Connections(Protocol):
    """A source of connections."""

    async def open(self, agent: Agent) -> Connection:
        """Return the connection of an agent.

        Raises:
            SecretError: the credentials are not available.
        """


_CacheKey = tuple[str, str, str]
"""Namespace and name of a Secret, and the URL of the LiveKit server."""


def _cache_key(agent: Agent) -> _CacheKey:
    return agent.namespace, agent.spec.livekit.credentials_secret_ref.name, agent.spec.livekit.url


@dataclass
class _CacheEntry:
    connection: Connection
    read_at: float
    """Monotonic seconds at which the last read of the Secret began if it succeeded, or ended if it failed."""
    refused: bool = False
    """LiveKit rejected the credentials; the key may have been rotated."""

    def is_fresh(self, now: float) -> bool:
        return now - self.read_at < (REFUSED_CACHE_SECONDS if self.refused else SECRET_CACHE_SECONDS)

    def is_in_doubt(self, now: float) -> bool:
        return self.refused or now - self.read_at >= DOUBT_SECONDS


@dataclass(frozen=True)
class _Read:
    """A read of a Secret, which all requests share."""

    task: asyncio.Task[Connection | SecretError]
    """It returns the error, so that nobody has to wait for it."""
    began: float
    """Monotonic seconds."""


class SecretConnections:
    """`Connections` with credentials from Secrets, cached for `SECRET_CACHE_SECONDS`. All share one HTTP session."""

    def __init__(
        self,
        secrets: SecretStore,
        session: aiohttp.ClientSession,
        observe: RequestObserver = lambda method, code, seconds: None,
    ) -> None:
        """``observe`` is called after each request to LiveKit."""
        self._secrets = secrets
        self._session = session
        self._observe = observe
        self._cache: dict[_CacheKey, _CacheEntry] = {}
        self._reads: dict[_CacheKey, _Read] = {}

    async def open(self, agent: Agent) -> Connection:
        key, now = _cache_key(agent), time.monotonic()
        entry = self._cache.get(key)
        if entry is not None and entry.is_fresh(now):
            return entry.connection
        read = self._reads.get(key) or self._begin_read(agent, key, now)
        if entry is None:
            outcome = await asyncio.shield(read.task)
        elif entry.is_in_doubt(read.began):
            await asyncio.wait([read.task], timeout=max(0.0, read.began + MAX_WAIT_SECONDS - now))
            outcome = read.task.result() if read.task.done() else entry.connection
        else:
            outcome = entry.connection
        if entry is not None and isinstance(outcome, SecretsUnavailable):
            return entry.connection
        if isinstance(outcome, SecretError):
            raise outcome
        return outcome

    def drop_unused(self, agents: Iterable[Agent]) -> None:
        """Remove the cached credentials that none of these agents uses."""
        used = {_cache_key(agent) for agent in agents}
        self._cache = {key: entry for key, entry in self._cache.items() if key in used}

    async def aclose(self) -> None:
        """End the reads in progress."""
        tasks = [read.task for read in self._reads.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_read(self, agent: Agent, key: _CacheKey, now: float) -> _Read:
        task = asyncio.create_task(self._refresh(agent, key, now), name=f"Secret of {agent.key}")
        self._reads[key] = read = _Read(task, now)
        return read

    async def _refresh(self, agent: Agent, key: _CacheKey, began: float) -> Connection | SecretError:
        """Read the Secret and update the cache. A Secret that does not exist or is incomplete is removed from it."""
        try:
            connection = await self._read(agent, key)
        except SecretsUnavailable as error:
            if (entry := self._cache.get(key)) is not None:
                entry.read_at = time.monotonic()
            return error
        except SecretError as error:
            self._cache.pop(key, None)
            return error
        finally:
            del self._reads[key]
        self._cache[key] = _CacheEntry(connection, began)
        return connection

    async def _read(self, agent: Agent, cache_key: _CacheKey) -> Connection:
        namespace, name, url = cache_key
        values = await self._secrets.read(namespace, name, (LIVEKIT_KEY, LIVEKIT_SECRET))
        for key in (LIVEKIT_KEY, LIVEKIT_SECRET):
            if not values.get(key):
                raise SecretError(f"Secret {namespace}/{name} has no key {key}")
        credentials = Credentials(values[LIVEKIT_KEY], values[LIVEKIT_SECRET])
        try:
            livekit = LiveKitServer(
                url, credentials, self._session, lambda: self._mark_refused(cache_key), self._observe
            )
        except ValueError as error:
            raise SecretError(f"spec.livekit.url of {agent.key} is not a valid URL: {error}") from error
        return Connection(livekit, credentials)

    def _mark_refused(self, cache_key: _CacheKey) -> None:
        if (entry := self._cache.get(cache_key)) is not None:
            entry.refused = True
