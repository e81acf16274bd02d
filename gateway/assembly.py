"""Creates a gateway from its parts."""

import logging
import secrets

import aiohttp

from gateway.agents import AgentDirectory
from gateway.api.access import Access
from gateway.api.context import Gateway
from gateway.api.forwarding import Forwarder
from gateway.api.jwks import FetchJson, fetcher
from gateway.api.keys import ApiKeys
from gateway.api.limits import create_limits
from gateway.api.oidc import Tokens
from gateway.calls.adoption import Adopter
from gateway.calls.dispatcher import Dispatcher
from gateway.calls.foreign import RoomDispatcher
from gateway.calls.ledger import Ledger
from gateway.calls.opening import CallOpener
from gateway.calls.reports import WorkerReports
from gateway.calls.tokens import TokenIssuer
from gateway.calls.watch import RoomWatch
from gateway.cluster.members import Members
from gateway.cluster.supply import SupplyExchange, SupplySource
from gateway.livekit.connections import Connections
from gateway.livekit.webhooks import Webhooks
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from gateway.web.pages import Pages

logger = logging.getLogger(__name__)


def assemble(
    settings: GatewaySettings,
    agents: AgentDirectory,
    connections: Connections,
    session: aiohttp.ClientSession,
    internal_session: aiohttp.ClientSession,
    metrics: Metrics,
) -> tuple[Gateway, SupplyExchange]:
    """Create a gateway and its exchange with the controller; neither is running yet."""
    ledger = Ledger()
    # A container that starts again in its pod is another gateway.
    members = Members(f"{settings.gateway_name}.{secrets.token_hex(3)}", settings.internal_address)
    supply = SupplyExchange(settings, session, ledger.pending, metrics.set_controller_reachable, members)
    members.on_doubt = supply.exchange_soon
    forwarder = Forwarder(members, internal_session, metrics, settings.internal_port)
    gateway = create_gateway(
        settings, agents, connections, ledger, metrics, supply, fetcher(session), members, forwarder
    )
    for path in gateway.pages.assets.missing():
        logger.error("a file of the call page is missing", extra={"path": path})
    return gateway, supply


def create_gateway(
    settings: GatewaySettings,
    agents: AgentDirectory,
    connections: Connections,
    ledger: Ledger,
    metrics: Metrics,
    supply: SupplySource,
    fetch_json: FetchJson,
    members: Members,
    forwarder: Forwarder,
) -> Gateway:
    """Create a gateway on any source of agents, LiveKit connections, free slots and issuers' keys."""
    metrics.calls.follow(agents.all, ledger.counts, members.acts_for)
    watch = RoomWatch(agents, connections, ledger)
    dispatcher = Dispatcher(agents, connections, ledger, watch, supply, members, metrics.calls)
    reports = WorkerReports(agents, ledger, watch, dispatcher.look)
    adopter = Adopter(agents, connections, ledger, dispatcher, reports, members)
    watch.on_unknown, watch.is_elsewhere = adopter.offer, adopter.is_elsewhere
    metrics.follow_gateways(members, agents.all)

    def follow_members() -> None:
        dispatcher.release_moved()
        watch.offer_again()

    members.on_change = follow_members
    limits = create_limits(
        settings.public_calls_per_minute, settings.key_calls_per_minute, settings.agent_calls_per_minute
    )
    keys, tokens = ApiKeys(settings.api_keys_dir), Tokens(settings.oidc_issuers, fetch_json)
    return Gateway(
        settings=settings,
        agents=agents,
        connections=connections,
        access=Access(agents, keys, tokens, limits, settings.gateway_hosts, settings.trusted_proxy_hops),
        ledger=ledger,
        dispatcher=dispatcher,
        tokens=TokenIssuer(connections, dispatcher),
        rooms=RoomDispatcher(connections, ledger, dispatcher, adopter, members),
        opener=CallOpener(connections, ledger, dispatcher, adopter, members, settings.max_pending_per_agent),
        members=members,
        forwarder=forwarder,
        closing=forwarder.closing,
        watch=watch,
        reports=reports,
        webhooks=Webhooks(agents, connections),
        metrics=metrics,
        pages=Pages(settings.livekit_client_dir),
    )
