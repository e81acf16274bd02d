"""The parts of a gateway that every request handler uses."""

import asyncio
from dataclasses import dataclass

from gateway.agents import AgentDirectory
from gateway.api.access import Access
from gateway.api.forwarding import Forwarder
from gateway.calls.dispatcher import Dispatcher
from gateway.calls.foreign import RoomDispatcher
from gateway.calls.ledger import Ledger
from gateway.calls.opening import CallOpener
from gateway.calls.reports import WorkerReports
from gateway.calls.tokens import TokenIssuer
from gateway.calls.watch import RoomWatch
from gateway.cluster.members import Members
from gateway.livekit.connections import Connections
from gateway.livekit.webhooks import Webhooks
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from gateway.web.pages import Pages


@dataclass(frozen=True)
class Gateway:
    """The parts of a gateway, created by `gateway.assembly`."""

    settings: GatewaySettings
    agents: AgentDirectory
    connections: Connections
    access: Access
    ledger: Ledger
    dispatcher: Dispatcher
    opener: CallOpener
    tokens: TokenIssuer
    rooms: RoomDispatcher
    members: Members
    forwarder: Forwarder
    watch: RoomWatch
    reports: WorkerReports
    webhooks: Webhooks
    metrics: Metrics
    pages: Pages
    closing: asyncio.Event
    """Set when the process stops: streams of events end."""

    def not_ready(self) -> str:
        """Return why this gateway takes no calls yet; empty: it does, and from then on always."""
        if not self.agents.synced:
            return "the AvatarAgents are not listed yet"
        if not self.members.is_introduced:
            return "the controller has not listed the gateways yet"
        return ""
