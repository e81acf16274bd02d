"""``python -m controller``: runs the operator until SIGTERM."""

import asyncio
import logging
import os
import socket
import sys
import uuid

import aiohttp

from controller.desired.identity import FIELD_MANAGER
from controller.runtime import logs
from controller.runtime.app import Controller
from controller.runtime.leadership import Leadership, OwnPod
from controller.runtime.settings import Settings, SettingsError
from kube.client import connect

logger = logging.getLogger(__name__)


def _identity() -> str:
    """Different for each process that ever runs."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


async def run(settings: Settings) -> bool:
    """Connect and run; false when the Lease was lost."""
    pod = None
    if settings.pod_name is not None and settings.pod_namespace is not None:
        pod = OwnPod(settings.pod_namespace, settings.pod_name)
    async with connect(FIELD_MANAGER) as client, connect(FIELD_MANAGER) as lease_client, _session() as session:
        leadership = Leadership(lease_client, settings.lease_namespace, settings.lease_name, _identity(), pod)
        client.allow_writes_while(lambda: leadership.held)
        return await Controller(settings, client, session, leadership).run()


def _session() -> aiohttp.ClientSession:
    """For workers and providers: as many connections as there are workers."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


def main() -> int:
    """0: stopped by a signal; 1: the Lease was lost, or a part failed; 2: the settings are wrong."""
    logs.configure()
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        return 0 if asyncio.run(run(settings)) else 1
    except Exception:
        logger.exception("controller failed")
        return 1


if __name__ == "__main__":
    sys.exit(main())
