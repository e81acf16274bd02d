"""The parts of a gateway that every request handler uses."""

from dataclasses import dataclass

from gateway.access import Access
from gateway.agents import AgentDirectory
from gateway.connections import Connections
from gateway.dispatcher import Dispatcher
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.opening import CallOpener
from gateway.pages import Pages
from gateway.settings import GatewaySettings


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
    metrics: Metrics
    pages: Pages
