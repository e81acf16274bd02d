"""``python -m controller``: runs the operator until SIGTERM."""

import asyncio
import logging
import os
import socket
import sys
import uuid

import aiohttp

from controller.desired.identity import FIELD_MANAGER
from controller.fleet.contact import socket_with_keepalive
from controller.metrics import Metrics
from controller.runtime import logs
from controller.runtime.app import Controller
from controller.runtime.leadership import Leadership, OwnPod
from controller.runtime.settings import ControllerSettings
from kube.client import connect
from process.settings import EXIT_INVALID_SETTINGS, SettingsError, load

logger = logging.getLogger("controller")  # __name__ is "__main__" in every process


def _identity() -> str:
    """Return the Lease holder identity: unique for each process."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


async def run(settings: ControllerSettings) -> bool:
    """Connect and run until a signal or the CRD's removal; returns false if the Lease was lost."""
    pod, metrics = None, Metrics()
    if settings.pod_name is not None and settings.pod_namespace is not None:
        pod = OwnPod(settings.pod_namespace, settings.pod_name)
    async with connect(FIELD_MANAGER) as client, connect(FIELD_MANAGER) as lease_client, _session() as session:
        for one in (client, lease_client):
            one.observe_requests(metrics.record_request)
        leadership = Leadership(lease_client, settings.lease_namespace, settings.lease_name, _identity(), pod)
        client.allow_writes_while(lambda: leadership.held)
        return await Controller(settings, client, session, leadership, metrics).run()


def _session() -> aiohttp.ClientSession:
    """Return a session for workers and providers, with no limit: each worker holds one connection."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, socket_factory=socket_with_keepalive))


def main() -> int:
    """Return 0 after a signal or the CRD's removal, 1 if the Lease was lost or a part failed, 2 for bad settings."""
    logs.configure()
    try:
        settings = load(ControllerSettings, os.environ)
    except SettingsError as error:
        logger.critical("invalid settings", extra={"error": str(error)})
        return EXIT_INVALID_SETTINGS
    try:
        return 0 if asyncio.run(run(settings)) else 1
    except Exception:
        logger.exception("controller failed")
        return 1


if __name__ == "__main__":
    sys.exit(main())
