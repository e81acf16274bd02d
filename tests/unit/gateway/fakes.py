"""Fakes in memory of what the gateway uses: LiveKit, agents, credentials and the controller."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import aiohttp

from agentspec import AvatarAgentSpec
from gateway.agents import Agent, InvalidAgent
from gateway.api.context import Gateway
from gateway.api.forwarding import Forwarder
from gateway.api.jwks import FetchError
from gateway.assembly import create_gateway
from gateway.calls.ledger import Ledger
from gateway.cluster.members import Members
from gateway.livekit.connections import Connection, SecretError
from gateway.livekit.server import Dispatch, LiveKitError, Participant, Room, RoomMissing
from gateway.livekit.tokens import Credentials
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings

CREDENTIALS = Credentials("devkey", "a-secret-of-at-least-thirty-two-characters")


def example_agent(
    name: str = "ornina", namespace: str = "agents", ready: bool = True, suspend: bool = False, **dispatch: object
) -> Agent:
    """The example agent; `dispatch` overrides fields of spec.dispatch, by their Python names."""
    spec = AvatarAgentSpec.model_validate(
        {
            "agentName": f"{name}-agent",
            "dispatch": {"room_name_pattern": f"^{name}-", "access": "Public", **dispatch},
            "livekit": {"url": "wss://livekit.example", "credentialsSecretRef": {"name": "livekit"}},
            "language": "ar",
            "suspend": suspend,
            "voice": {"openai": {"credentialsSecretRef": {"name": "openai"}}},
        }
    )
    return Agent(namespace, name, spec, ready)


@dataclass
class Clock:
    """A clock that the test advances."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class FakeRoom:
    """An open room."""

    metadata: str
    dispatches: list[Dispatch] = field(default_factory=list)
    participants: list[Participant] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)


@dataclass
class FakeLiveKit:
    """A server whose workers accept up to `slots` dispatches to `agent_name`, and join at once."""

    agent_name: str = "ornina-agent"
    slots: int = 1
    joins: bool = True
    """Whether a worker that accepts a dispatch also joins."""
    error: LiveKitError | None = None
    """Raised by every request, if set."""
    rooms_by_name: dict[str, FakeRoom] = field(default_factory=dict)
    launches: list[tuple[str, str]] = field(default_factory=list)
    """Every dispatch ever created: room and agent name."""
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    async def create_room(self, name: str, metadata: str, agent_name: str, dispatch_metadata: str) -> None:
        self._check()
        if name in self.rooms_by_name:
            return
        self.rooms_by_name[name] = FakeRoom(metadata)
        self._dispatch(name, agent_name, dispatch_metadata)

    async def rooms(self, names: Sequence[str] = ()) -> list[Room]:
        self._check()
        return [
            Room(
                name,
                room.metadata,
                sid=f"RM_{name}_{room.created_at}",
                created_at=room.created_at,
                participants=sum(not one.is_agent for one in room.participants),
                publishers=len(room.participants),
            )
            for name, room in self.rooms_by_name.items()
            if not names or name in names
        ]

    async def participants(self, room: str) -> list[Participant]:
        self._check()
        return list(self.rooms_by_name[room].participants) if room in self.rooms_by_name else []

    async def dispatches(self, room: str) -> list[Dispatch]:
        return list(self._room(room).dispatches)

    async def create_dispatch(self, room: str, agent_name: str, metadata: str) -> None:
        self._room(room)
        self._dispatch(room, agent_name, metadata)

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        found = self._room(room)
        kept = [dispatch for dispatch in found.dispatches if dispatch.id != dispatch_id]
        if kept == found.dispatches:
            raise RoomMissing(f"no dispatch {dispatch_id}")  # LiveKit has one code for both: not found
        found.dispatches = kept

    async def remove_participant(self, room: str, identity: str) -> None:
        self.disconnect(room, identity)

    async def set_metadata(self, room: str, metadata: str) -> None:
        self._room(room).metadata = metadata

    async def delete_room(self, room: str) -> None:
        self._room(room)
        del self.rooms_by_name[room]

    def connect_caller(self, room: str, identity: str) -> None:
        """Connect a caller to a room."""
        joined_at = next(self._ids)
        self.rooms_by_name[room].participants.append(Participant(identity, False, "", joined_at))

    def disconnect(self, room: str, identity: str) -> None:
        """Disconnect a participant from a room."""
        found = self.rooms_by_name[room]
        found.participants = [participant for participant in found.participants if participant.identity != identity]

    def agents_in(self, room: str) -> list[str]:
        """Return the identities of the agents in a room, in the order in which they joined."""
        found = self.rooms_by_name.get(room)
        return [participant.identity for participant in found.participants if participant.is_agent] if found else []

    def join(self, room: str) -> str:
        """Let an agent join a room, with or without a dispatch; returns its identity."""
        identity = f"agent-{next(self._ids)}"
        self.rooms_by_name[room].participants.append(Participant(identity, True, self.agent_name, next(self._ids)))
        return identity

    def _room(self, name: str) -> FakeRoom:
        self._check()
        if name not in self.rooms_by_name:
            raise RoomMissing(f"no room {name}")
        return self.rooms_by_name[name]

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _dispatch(self, room: str, agent_name: str, metadata: str) -> None:
        self.launches.append((room, agent_name))
        busy = sum(dispatch.accepted for found in self.rooms_by_name.values() for dispatch in found.dispatches)
        accepted = agent_name == self.agent_name and busy < self.slots
        dispatch = Dispatch(f"AD_{next(self._ids)}", agent_name, metadata, accepted)
        self.rooms_by_name[room].dispatches.append(dispatch)
        if accepted and self.joins:
            self.join(room)


@dataclass
class FakeAgents:
    """An `AgentDirectory` of the agents that a test lists."""

    listed: list[Agent | InvalidAgent] = field(default_factory=lambda: [example_agent()])
    is_synced: bool = True

    @property
    def synced(self) -> bool:
        return self.is_synced

    async def wait_synced(self) -> None:
        assert self.is_synced

    def get(self, namespace: str, name: str) -> Agent | InvalidAgent | None:
        return next((found for found in self.listed if (found.namespace, found.name) == (namespace, name)), None)

    def all(self) -> list[Agent | InvalidAgent]:
        return list(self.listed)


@dataclass
class FakeConnections:
    """Connections of all agents to one server, or an error."""

    livekit: FakeLiveKit
    error: SecretError | None = None
    credentials: Credentials = CREDENTIALS

    async def open(self, agent: Agent) -> Connection:
        if self.error is not None:
            raise self.error
        return Connection(self.livekit, self.credentials)


@dataclass
class FakeSupply:
    """The counts that the controller reports."""

    free: int | None = 1
    """Free slots; None: unknown."""
    seats: int | None = None
    """Free avatar seats; None: the agent has no limit."""
    exchanges: int = 0
    """Number of requested exchanges."""

    def free_slots(self, agent_key: str) -> int | None:
        return self.free

    def free_seats(self, agent_key: str) -> int | None:
        return self.seats

    def exchange_soon(self) -> None:
        self.exchanges += 1


@dataclass
class FakeIssuer:
    """The HTTP server of an issuer of tokens: JSON documents by URL."""

    documents: dict[str, object] = field(default_factory=dict)
    is_reachable: bool = True
    fetched: list[str] = field(default_factory=list)
    """Every URL that was fetched."""

    async def fetch(self, url: str) -> object:
        self.fetched.append(url)
        if not self.is_reachable or url not in self.documents:
            raise FetchError(f"{url} is unreachable")
        return self.documents[url]


@dataclass
class World:
    """A gateway among fakes."""

    livekit: FakeLiveKit
    agents: FakeAgents
    connections: FakeConnections
    supply: FakeSupply
    gateway: Gateway


def create_world(
    settings: GatewaySettings | None = None,
    livekit: FakeLiveKit | None = None,
    issuer: FakeIssuer | None = None,
    *,
    members: Members | None = None,
    session: aiohttp.ClientSession | None = None,
) -> World:
    """Create a gateway among fakes, on a new LiveKit server or a given one.

    It is the only gateway, unless ``members`` are given. ``session`` is for forwarded requests.
    """
    livekit, agents, supply = livekit or FakeLiveKit(), FakeAgents(), FakeSupply()
    connections, metrics, members = FakeConnections(livekit), Metrics(), members or Members("g1", "")
    names = {"default_namespace": "agents", "gateway_hosts": ("gateway.example",)}
    settings = (settings or GatewaySettings()).model_copy(update=names)
    forwarder = Forwarder(members, cast(aiohttp.ClientSession, session), metrics, settings.internal_port)
    gateway = create_gateway(
        settings,
        agents,
        connections,
        Ledger(),
        metrics,
        supply,
        (issuer or FakeIssuer()).fetch,
        members,
        forwarder,
    )
    return World(livekit, agents, connections, supply, gateway)
