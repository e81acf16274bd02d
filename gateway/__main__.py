"""``python -m gateway``: run the gateway until SIGTERM."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import aiohttp
import uvicorn
import uvloop
from aiohttp import web

from gateway.agents import AgentDirectory
from gateway.api.app import create_app
from gateway.assembly import assemble
from gateway.calls import housekeeping
from gateway.cluster.events import WorkerEvents
from gateway.cluster.resources import FIELD_MANAGER, ClusterAgents, ClusterSecrets
from gateway.livekit.connections import SecretConnections
from gateway.livekit.server import REQUEST_TIMEOUT, livekit_connector
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from kube.client import connect
from process import logs
from process.health import exposition_of, health_app, serving
from process.settings import EXIT_INVALID_SETTINGS, SettingsError, load

SHUTDOWN_SECONDS = 5
"""Time for requests in progress at SIGTERM; the server then closes requests that still wait."""

logger = logging.getLogger("gateway")  # __name__ is "__main__" in every process


def cluster_app(agents: AgentDirectory, metrics: Metrics) -> web.Application:
    """Create the application for health and metrics. It has its own port, which callers do not reach."""
    return health_app(
        live=lambda: "",
        ready=lambda: "" if agents.synced else "the AvatarAgents are not listed yet",
        metrics=exposition_of(metrics.registry),
    )


class _Server(uvicorn.Server):
    """Ends the streams of events first when it stops, because they would last for minutes."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)


async def serve(settings: GatewaySettings) -> None:
    """Run the gateway until a signal stops the server, or a background task fails."""
    async with (
        connect(FIELD_MANAGER) as client,
        aiohttp.ClientSession(timeout=REQUEST_TIMEOUT, connector=livekit_connector()) as livekit_session,
        aiohttp.ClientSession() as controller_session,
    ):
        agents = ClusterAgents(client, settings.watch_namespace)
        metrics = Metrics()
        connections = SecretConnections(ClusterSecrets(client), livekit_session, metrics.record_livekit_request)
        gateway, supply = assemble(settings, agents, connections, controller_session, metrics)
        events = WorkerEvents(settings, controller_session, gateway.reports)
        gateway.watch.is_heard = events.is_heard
        server = _Server(
            uvicorn.Config(
                create_app(gateway),
                host="0.0.0.0",
                port=settings.port,
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            ),
            gateway.closing,
        )
        background = (
            agents.run(),
            supply.run(gateway.dispatcher.wake_waiting_calls),
            events.run(),
            housekeeping.run(agents, connections, gateway.ledger, gateway.watch),
        )
        async with serving(cluster_app(agents, metrics), settings.probe_port), metrics.process.sampling():
            await _serve_with(server, background)
        await gateway.dispatcher.stop()


async def _serve_with(server: uvicorn.Server, background: tuple[Coroutine[Any, Any, None], ...]) -> None:
    """Run the server and background tasks. Exit with status 1 when a task fails."""
    tasks = [asyncio.create_task(part) for part in background]

    def failed(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.critical("background task failed, stopping", exc_info=task.exception())
            server.should_exit = True

    for task in tasks:
        task.add_done_callback(failed)
    await server.serve()
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
