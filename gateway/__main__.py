"""``python -m gateway``: run the gateway until SIGTERM."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import aiohttp
import uvicorn
import uvloop
from aiohttp import web

from gateway.api.app import create_app
from gateway.api.context import Gateway
from gateway.api.forwarding import internal_session
from gateway.assembly import assemble
from gateway.calls import housekeeping
from gateway.cluster.events import WorkerEvents
from gateway.cluster.peers import Peers, asking
from gateway.cluster.resources import FIELD_MANAGER, ClusterAgents, ClusterSecrets
from gateway.cluster.supply import SupplyExchange
from gateway.livekit.connections import SecretConnections
from gateway.livekit.server import livekit_connector
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from kube.client import connect
from process import logs
from process.health import exposition_of, health_app, serving
from process.settings import EXIT_INVALID_SETTINGS, SettingsError, load

SHUTDOWN_SECONDS = 5
"""Time for requests in progress at SIGTERM; the server then closes requests that still wait."""

HANDOVER_SECONDS = 5.0
"""Time at SIGTERM in which this gateway forwards new requests, until no load balancer sends it any."""
BACKLOG = 2048

logger = logging.getLogger("gateway")  # __name__ is "__main__" in every process


async def hand_over(gateway: Gateway, supply: SupplyExchange) -> None:
    """Give all calls to the other gateways, and forward new requests to them. Without others, return at once."""
    if gateway.members.leave():
        await supply.exchange_now()
        await asyncio.sleep(HANDOVER_SECONDS)


def cluster_app(gateway: Gateway) -> web.Application:
    """Create the application for health and metrics. It has its own port, which callers do not reach."""
    return health_app(live=lambda: "", ready=gateway.not_ready, metrics=exposition_of(gateway.metrics.registry))


class _Server(uvicorn.Server):
    """Hands over to other gateways when it stops, and then ends requests that would last long."""

    def __init__(
        self, config: uvicorn.Config, closing: asyncio.Event, hand_over: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._closing = closing
        self._hand_over = hand_over

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._hand_over()
        self._closing.set()
        await super().shutdown(sockets)


async def serve(settings: GatewaySettings) -> None:
    """Run the gateway until a signal stops the server, or a background task fails."""
    metrics = Metrics()
    async with (
        connect(FIELD_MANAGER) as client,
        aiohttp.ClientSession(connector=livekit_connector()) as livekit_session,
        aiohttp.ClientSession() as controller_session,
        internal_session() as gateway_session,
        aclosing(
            SecretConnections(ClusterSecrets(client), livekit_session, metrics.record_livekit_request)
        ) as connections,
    ):
        agents = ClusterAgents(client, settings.watch_namespace)
        gateway, supply = assemble(settings, agents, connections, controller_session, gateway_session, metrics)
        events = WorkerEvents(settings, controller_session, gateway.reports, gateway.members.me.name)
        gateway.watch.is_heard = events.is_heard
        server = _Server(
            uvicorn.Config(
                create_app(gateway),
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            ),
            gateway.closing,
            lambda: hand_over(gateway, supply),
        )
        background = (
            agents.run(),
            supply.run(gateway.dispatcher.wake_waiting_calls),
            events.run(),
            Peers(gateway.members, asking(gateway_session, gateway.members.me.name)).run(),
            housekeeping.run(agents, connections, gateway.ledger, gateway.watch),
        )
        async with serving(cluster_app(gateway), settings.probe_port), metrics.process.sampling():
            await _serve_with(server, listen(settings), background)
        await gateway.dispatcher.stop()


def listen(settings: GatewaySettings) -> list[socket.socket]:
    """Listen on the port for callers, and on the one for other gateways."""
    ports = [settings.port, *([settings.internal_port] if settings.internal_address else [])]
    return [socket.create_server(("0.0.0.0", port), backlog=BACKLOG) for port in ports]


async def _serve_with(
    server: uvicorn.Server, sockets: list[socket.socket], background: tuple[Coroutine[Any, Any, None], ...]
) -> None:
    """Run the server and background tasks. Exit with status 1 when a task fails."""
    tasks = [asyncio.create_task(part) for part in background]

    def failed(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.critical("background task failed, stopping", exc_info=task.exception())
            server.should_exit = True

    for task in tasks:
        task.add_done_callback(failed)
    await server.serve(sockets)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    if any(isinstance(outcome, Exception) for outcome in outcomes):
        raise SystemExit(1)


def main() -> int:
    """Return 0 after a signal, 2 when the settings are invalid. Exits with 1 when a part of the gateway failed."""
    logs.configure(levels=dict.fromkeys(("aiohttp", "livekit", "kubernetes"), logging.WARNING))
    try:
        settings = load(GatewaySettings, os.environ)
    except SettingsError as error:
        logger.critical("invalid settings", extra={"error": str(error)})
        return EXIT_INVALID_SETTINGS
    try:
        uvloop.run(serve(settings))
    except Exception:
        logger.exception("gateway failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
