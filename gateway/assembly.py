"""Creates a gateway from its parts."""

import logging

import aiohttp

from gateway.access import Access, ApiKeys, RateLimit
from gateway.agents import AgentDirectory
from gateway.connections import Connections
from gateway.context import Gateway
from gateway.dispatcher import Dispatcher
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.opening import CallOpener
from gateway.pages import Pages
from gateway.settings import GatewaySettings
from gateway.supply import SupplyExchange, SupplySource

logger = logging.getLogger(__name__)


def assemble(
    settings: GatewaySettings,
    agents: AgentDirectory,
    connections: Connections,
    session: aiohttp.ClientSession,
    metrics: Metrics,
) -> tuple[Gateway, SupplyExchange]:
    """Create a gateway and its exchange with the controller; neither is running yet."""
    ledger = Ledger()
    supply = SupplyExchange(settings, session, ledger, metrics)
    gateway = create_gateway(settings, agents, connections, ledger, metrics, supply)
    for path in gateway.pages.missing():
        logger.error("a file of the call page is missing", extra={"path": path})
    return gateway, supply


def create_gateway(
    settings: GatewaySettings,
    agents: AgentDirectory,
    connections: Connections,
    ledger: Ledger,
    metrics: Metrics,
    supply: SupplySource,
) -> Gateway:
    """Create a gateway on any source of agents, LiveKit connections and free slots."""
    metrics.follow(agents.all, lambda: ledger)
    dispatcher = Dispatcher(agents, connections, ledger, supply, metrics)
    return Gateway(
        settings=settings,
        agents=agents,
        connections=connections,
        access=Access(
            ApiKeys(settings.api_keys_dir), RateLimit(settings.public_calls_per_minute), settings.trusted_proxy_hops
        ),
        ledger=ledger,
        dispatcher=dispatcher,
        opener=CallOpener(connections, ledger, dispatcher, settings.max_pending_per_agent),
        metrics=metrics,
        pages=Pages(settings.livekit_client_dir),
    )
