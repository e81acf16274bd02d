"""From an agent to its LiveKit server: credentials from its Secret, and a client that speaks with them."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET
from gateway.agents import Agent
from gateway.livekit import LiveKit, LiveKitServer
from gateway.tokens import Credentials

SECRET_CACHE_SECONDS = 15.0
"""How long a changed Secret may go unnoticed while LiveKit accepts the old one; keys are rotated within 30 s."""
REFUSED_CACHE_SECONDS = 1.0
"""The same once LiveKit refused it. Not at once: a Secret that is simply wrong would be read with every request."""


class SecretError(Exception):
    """A Secret is missing or lacks a key, or its server has no address; for the log and the operator's eyes."""


class SecretsUnavailable(SecretError):
    """Secrets cannot be read just now; those read before still serve."""


class SecretStore(Protocol):
    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        """The decoded values of those keys that the Secret has.

        Raises:
            SecretError: it does not exist or cannot be read.
        """


@dataclass(frozen=True)
class Connection:
    """An agent's LiveKit server and the credentials that tokens for it are signed with."""

    livekit: LiveKit
    credentials: Credentials


class Connections(Protocol):
    async def open(self, agent: Agent) -> Connection:
        """The connection of an agent.

        Raises:
            SecretError: its credentials cannot be had.
        """


_Place = tuple[str, str, str]
"""Namespace and name of a Secret, and the URL of the server that it is for."""


def _place(agent: Agent) -> _Place:
    return agent.namespace, agent.spec.livekit.credentials_secret_ref.name, agent.spec.livekit.url


@dataclass
class _Kept:
    connection: Connection
    read_at: float
    """Monotonic seconds of the last question after the Secret."""
    refused: bool = False
    """LiveKit refused it: its keys may have been rotated."""

    def fresh(self, now: float) -> bool:
        return now - self.read_at < (REFUSED_CACHE_SECONDS if self.refused else SECRET_CACHE_SECONDS)


class SecretConnections:
    """Connections from Secrets, kept for seconds; one HTTP session for all."""

    def __init__(self, secrets: SecretStore, session: aiohttp.ClientSession) -> None:
        self._secrets = secrets
        self._session = session
        self._kept: dict[_Place, _Kept] = {}

    async def open(self, agent: Agent) -> Connection:
        place, now = _place(agent), time.monotonic()
        kept = self._kept.get(place)
        if kept is not None and kept.fresh(now):
            return kept.connection
        try:
            connection = await self._read(agent, place)
        except SecretsUnavailable:
            if kept is None:
                raise
            kept.read_at = now
            return kept.connection
        self._kept[place] = _Kept(connection, now)
        return connection

    def drop_unused(self, agents: Iterable[Agent]) -> None:
        """Forget the credentials that none of these agents uses."""
        used = {_place(agent) for agent in agents}
        self._kept = {place: kept for place, kept in self._kept.items() if place in used}

    async def _read(self, agent: Agent, place: _Place) -> Connection:
        namespace, name, url = place
        values = await self._secrets.read(namespace, name, (LIVEKIT_KEY, LIVEKIT_SECRET))
        for key in (LIVEKIT_KEY, LIVEKIT_SECRET):
            if not values.get(key):
                raise SecretError(f"Secret {namespace}/{name} has no key {key}")
        credentials = Credentials(values[LIVEKIT_KEY], values[LIVEKIT_SECRET])
        try:
            return Connection(LiveKitServer(url, credentials, self._session, lambda: self._refused(place)), credentials)
        except ValueError as error:
            raise SecretError(f"spec.livekit.url of {agent.key} is no address: {error}") from error

    def _refused(self, place: _Place) -> None:
        if (kept := self._kept.get(place)) is not None:
            kept.refused = True
