"""``python -m gateway``: serves the gateway until SIGTERM."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any

import aiohttp
import uvicorn

from gateway.adoption import run_housekeeping
from gateway.app import create_app
from gateway.assembly import assemble
from gateway.cluster import FIELD_MANAGER, ClusterAgents, ClusterSecrets
from gateway.connections import SecretConnections
from gateway.livekit import REQUEST_TIMEOUT
from gateway.logs import configure_logging
from gateway.probes import probe_app, serving
from gateway.settings import Settings, SettingsError, read_settings
from kube.client import connect

SHUTDOWN_SECONDS = 5
"""For requests in progress at SIGTERM; questions held open are let go after it."""

logger = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Run every part until the server is told to stop; a background part that fails stops the gateway."""
    async with connect(FIELD_MANAGER) as client, aiohttp.ClientSession(timeout=REQUEST_TIMEOUT) as session:
        agents = ClusterAgents(client, settings.watch_namespace)
        connections = SecretConnections(ClusterSecrets(client), session)
        gateway, supply = assemble(settings, agents, connections, session)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(gateway),
                host="0.0.0.0",
                port=settings.port,
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )
        background = (
            agents.run(),
            supply.run(gateway.dispatcher.wake_waiting_calls),
            run_housekeeping(agents, connections, gateway.opener, gateway.ledger),
        )
        async with serving(probe_app(agents, gateway.metrics), settings.probe_port):
            await _serve_beside(server, background)
        await gateway.dispatcher.stop()


async def _serve_beside(server: uvicorn.Server, background: tuple[Coroutine[Any, Any, None], ...]) -> None:
    tasks = [asyncio.create_task(part) for part in background]

    def failed(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.critical("a part of the gateway failed", exc_info=task.exception())
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
    configure_logging()
    try:
        settings = read_settings()
    except SettingsError as problem:
        logger.critical("settings refused", extra={"error": str(problem)})
        return 2
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
