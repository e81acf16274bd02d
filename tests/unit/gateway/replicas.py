"""Several gateways on one LiveKit server, in virtual time, with the controller's own list of gateways."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import aiohttp

from agentspec.wire import GatewayMember
from controller.fleet.gateways import Gateways
from gateway.agents import Agent
from gateway.api.context import Gateway
from gateway.api.forwarding import Forwarder
from gateway.assembly import create_gateway
from gateway.calls.ledger import Ledger
from gateway.cluster.members import Members
from gateway.cluster.peers import ANSWER_SECONDS, Peers, PeerView, view_of
from gateway.cluster.supply import EXCHANGE_SECONDS
from gateway.livekit.connections import Connection
from gateway.livekit.server import LiveKit
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from tests.unit.gateway.fakes import CREDENTIALS, FakeAgents, FakeIssuer, FakeLiveKit

LATENCY_SECONDS = 0.01
"""Of each request to LiveKit and to the controller."""


def now() -> float:
    """Return the time of the running event loop."""
    return asyncio.get_running_loop().time()


class SharedSupply:
    """What the controller reports to all gateways: the slots that no accepted dispatch uses."""

    def __init__(self, livekit: FakeLiveKit) -> None:
        self._livekit = livekit

    def free_slots(self, agent_key: str) -> int | None:
        rooms = self._livekit.rooms_by_name.values()
        return self._livekit.slots - sum(one.accepted for room in rooms for one in room.dispatches)

    def free_seats(self, agent_key: str) -> int | None:
        return None

    def exchange_soon(self) -> None:
        return None


class SlowLiveKit:
    """A client whose requests take time, so that a gateway can stop in the middle of several."""

    def __init__(self, livekit: FakeLiveKit) -> None:
        self._livekit = livekit

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def request(*arguments: object) -> object:
            await asyncio.sleep(LATENCY_SECONDS)
            return await getattr(self._livekit, name)(*arguments)

        return request


class Process:
    """Whether a process runs. One that is frozen sends nothing until it is resumed."""

    def __init__(self, livekit: FakeLiveKit) -> None:
        self._livekit = livekit
        self.running = asyncio.Event()
        self.running.set()

    async def open(self, agent: Agent) -> Connection:
        await self.running.wait()
        return Connection(cast(LiveKit, SlowLiveKit(self._livekit)), CREDENTIALS)


class Replica:
    """One gateway, and its exchange with the controller."""

    def __init__(self, name: str, controller: Gateways, livekit: FakeLiveKit, address: str = "") -> None:
        """``address``: another process had it before; empty: a new one."""
        self.name = name
        self.is_cut_off = False
        """The controller's answers do not arrive."""
        self.is_alive = True
        self._controller = controller
        self._process = Process(livekit)
        self.members = Members(name, address or f"{name}:8082", clock=now)
        self.ledger = Ledger()
        self.gateway = self._create(livekit)
        self.gateway.watch.cover_declared()
        self._peers: dict[str, Replica] = {}
        self._tasks = [
            asyncio.create_task(self._exchange()),
            asyncio.create_task(Peers(self.members, self._ask, clock=now).run()),
        ]

    def meet(self, replicas: "Iterable[Replica]") -> None:
        """Reach these replicas over the network."""
        self._peers = {one.name: one for one in replicas}

    async def _ask(self, member: GatewayMember) -> PeerView:
        await self._process.running.wait()
        peer = self._peers[member.name]
        await asyncio.sleep(LATENCY_SECONDS)
        if not peer.is_running:
            await asyncio.sleep(ANSWER_SECONDS)
            raise TimeoutError
        return view_of(peer.members, self.name)

    def _create(self, livekit: FakeLiveKit) -> Gateway:
        metrics, supply, agents = Metrics(), SharedSupply(livekit), FakeAgents()
        settings = GatewaySettings(default_namespace="agents", max_pending_per_agent=200)
        session = cast(aiohttp.ClientSession, None)
        forwarder = Forwarder(self.members, session, metrics, settings.internal_port)
        fetch = FakeIssuer().fetch
        return create_gateway(
            settings, agents, self._process, self.ledger, metrics, supply, fetch, self.members, forwarder
        )

    @property
    def is_running(self) -> bool:
        """Whether the process is neither gone nor frozen."""
        return self.is_alive and self._process.running.is_set()

    async def kill(self) -> None:
        """End the process without a word."""
        self.is_alive = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.gateway.dispatcher.stop()

    async def leave(self) -> None:
        """Stop as at SIGTERM."""
        if self.members.leave():
            self._controller.left(self.name)
        await self.kill()

    async def freeze(self) -> None:
        """Stop the process where it is."""
        self._process.running.clear()

    async def cut_off(self) -> None:
        """Let no answer of the controller arrive."""
        self.is_cut_off = True

    def resume(self) -> None:
        """Let a frozen process go on, and connect one that was cut off."""
        self._process.running.set()
        self.is_cut_off = False

    async def _exchange(self) -> None:
        while True:
            await self._process.running.wait()
            began = now()
            if self.is_cut_off:
                await asyncio.sleep(2)
            else:
                await asyncio.sleep(LATENCY_SECONDS)
                self._controller.heard(self.name, self.members.me.address, now())
                members = self._controller.members(now())
                await asyncio.sleep(LATENCY_SECONDS)
                await self._process.running.wait()
                self.members.received(members, began)
                self.gateway.dispatcher.wake_waiting_calls()
            self.members.check()
            await asyncio.sleep(EXCHANGE_SECONDS)
