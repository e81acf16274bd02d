"""From an agent to its LiveKit server: credentials from its Secret, and a client that speaks with them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET
from gateway.agents import Agent
from gateway.livekit import LiveKit, LiveKitServer
from gateway.tokens import Credentials

SECRET_CACHE_SECONDS = 60.0
"""How long a changed Secret may go unnoticed."""


class SecretProblem(Exception):
    """A Secret is missing or lacks a key, or its server has no address; for the log and the operator's eyes."""


class SecretsUnavailable(SecretProblem):
    """Secrets cannot be read just now; those read before still serve."""


class SecretStore(Protocol):
    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        """The decoded values of those keys that the Secret has.

        Raises:
            SecretProblem: it does not exist or cannot be read.
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
            SecretProblem: its credentials cannot be had.
        """


class SecretConnections:
    """Connections from Secrets, kept for a minute; one HTTP session for all."""

    def __init__(self, secrets: SecretStore, session: aiohttp.ClientSession) -> None:
        self._secrets = secrets
        self._session = session
        self._cache: dict[tuple[str, str, str], tuple[float, Connection]] = {}

    async def open(self, agent: Agent) -> Connection:
        reference = agent.spec.livekit.credentials_secret_ref.name
        place = (agent.namespace, reference, agent.spec.livekit.url)
        now = time.monotonic()
        cached = self._cache.get(place)
        if cached and now - cached[0] < SECRET_CACHE_SECONDS:
            return cached[1]
        try:
            values = await self._secrets.read(agent.namespace, reference, (LIVEKIT_KEY, LIVEKIT_SECRET))
        except SecretsUnavailable:
            if cached is None:
                raise
            return cached[1]
        for key in (LIVEKIT_KEY, LIVEKIT_SECRET):
            if not values.get(key):
                raise SecretProblem(f"Secret {agent.namespace}/{reference} has no key {key}")
        credentials = Credentials(values[LIVEKIT_KEY], values[LIVEKIT_SECRET])
        try:
            connection = Connection(LiveKitServer(agent.spec.livekit.url, credentials, self._session), credentials)
        except ValueError as error:
            raise SecretProblem(f"spec.livekit.url of {agent.key} is no address: {error}") from error
        self._cache[place] = (now, connection)
        return connection
