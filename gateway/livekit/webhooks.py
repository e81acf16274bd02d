"""LiveKit's webhooks: whether a server of declared agents has signed one, and which room it is about.

LiveKit signs a token with one of the server's API keys and secrets. The token names the key and holds the hash of the
body. The gateway knows the keys of a server from the Secrets of its agents.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from google.protobuf.json_format import ParseError
from joserfc import jws
from joserfc.errors import JoseError
from livekit import api

from gateway.agents import Agent, AgentDirectory
from gateway.livekit.connections import Connections, SecretError
from gateway.livekit.tokens import Credentials

ROOM_EVENTS: Final = (
    "room_started",
    "participant_joined",
    "participant_left",
    "participant_connection_aborted",
    "room_finished",
)
"""Events after which the calls in a room may be another."""
BEGINNINGS: Final = frozenset({"room_started", "participant_joined"})
"""Those of them with which a call may begin."""
OTHER_EVENT: Final = "other"
"""What metrics call all other events, for example those of tracks."""
KEYS_SECONDS: Final = 30.0
"""Age at which the API keys are read again. It limits how often a webhook of an unknown key reads Secrets."""
READ_SECONDS: Final = 10.0
"""Longest time to read all keys. The next webhook after `KEYS_SECONDS` reads those that are missing then."""
MAX_READS: Final = 8
"""Secrets that are read at once."""
MAX_TOKEN_LENGTH: Final = 4096

_REGISTRY: Final = jws.JWSRegistry(algorithms=["HS256"], strict_check_header=False)
_NO_TOKEN: Final = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What a text that is no token with an issuer raises."""


class InvalidSignature(Exception):
    """No LiveKit server of a declared agent has signed the webhook."""


class InvalidEvent(Exception):
    """A signed webhook is no event of LiveKit."""


@dataclass(frozen=True)
class Webhook:
    """A signed event."""

    event: str
    room: str
    """Name of the room; empty: the event is about none."""
    room_metadata: str
    servers: frozenset[str]
    """URLs of the LiveKit servers with the key that signed it, as agents name them."""


_ServersByKey = dict[str, dict[Credentials, set[str]]]
"""URLs of servers by credentials, by API key. Servers may have the same key and different secrets."""


class Webhooks:
    """Checks webhooks against the credentials of all declared agents."""

    def __init__(self, agents: AgentDirectory, connections: Connections) -> None:
        self._agents = agents
        self._connections = connections
        self._servers: _ServersByKey = {}
        self._read_at: float | None = None
        """Monotonic seconds."""
        self._reading = asyncio.Lock()

    async def receive(self, body: bytes, token: str) -> Webhook:
        """Return the event of a webhook.

        Raises:
            InvalidSignature: the token is not valid, its key is unknown, or the body is another one.
            InvalidEvent: the body is no event.
        """
        api_key = _issuer(token)
        await self._read_keys()
        for credentials, servers in self._servers.get(api_key, {}).items():
            event = _verified(credentials, body, token)
            if event is not None:
                return Webhook(event.event, event.room.name, event.room.metadata, frozenset(servers))
        raise InvalidSignature(f"no known secret of the API key {api_key!r} verifies the webhook")

    async def _read_keys(self) -> None:
        """Read the keys of all agents, unless that was done lately. Webhooks that arrive meanwhile wait for it."""
        async with self._reading:
            if self._read_at is not None and time.monotonic() - self._read_at < KEYS_SECONDS:
                return
            found: _ServersByKey = {}
            try:
                async with asyncio.timeout(READ_SECONDS):
                    await self._read(_with_different_secrets(self._agents), found)
            except TimeoutError:
                pass
            self._servers, self._read_at = found, time.monotonic()

    async def _read(self, agents: Iterable[Agent], found: _ServersByKey) -> None:
        bound = asyncio.Semaphore(MAX_READS)

        async def read(agent: Agent) -> None:
            async with bound:
                try:
                    credentials = (await self._connections.open(agent)).credentials
                except SecretError:
                    return  # the list of rooms logs it
            found.setdefault(credentials.api_key, {}).setdefault(credentials, set()).add(agent.spec.livekit.url)

        await asyncio.gather(*(read(agent) for agent in agents))


def _with_different_secrets(agents: AgentDirectory) -> list[Agent]:
    """Return one declared agent for each Secret and server."""
    declared = (agent for agent in agents.all() if isinstance(agent, Agent))
    return list(
        {
            (agent.namespace, agent.spec.livekit.credentials_secret_ref.name, agent.spec.livekit.url): agent
            for agent in declared
        }.values()
    )


def _issuer(token: str) -> str:
    """Return the API key that a token names; nothing is verified yet."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidSignature("the token is too long")
    try:
        issuer = json.loads(jws.extract_compact(token.encode(), registry=_REGISTRY).payload)["iss"]
    except _NO_TOKEN as error:
        raise InvalidSignature("the Authorization header has no token") from error
    return str(issuer)


def _verified(credentials: Credentials, body: bytes, token: str) -> api.WebhookEvent | None:
    """Return the event if these credentials have signed the token, and the token the body."""
    receiver = api.WebhookReceiver(api.TokenVerifier(credentials.api_key, credentials.api_secret))
    try:
        return receiver.receive(body.decode(), token)
    except ParseError as error:
        raise InvalidEvent(str(error)) from error
    except Exception:  # the client library raises plain exceptions, and those of its JWT library
        return None
