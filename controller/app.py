"""Puts the parts together and runs them until one ends."""

import asyncio
import logging
import time

import aiohttp
import kopf

from controller import handlers
from controller.authentication import GatewayAuthentication
from controller.cluster.client import ApiError, KubeClient
from controller.fleet import Fleet
from controller.livekit import LiveKitCheck
from controller.metrics import Metrics
from controller.observation import Key
from controller.polling import WorkerPolling
from controller.reconcile import Reconciler
from controller.resync import Resync
from controller.server import ControllerServer
from controller.settings import Settings
from controller.workqueue import WorkQueue

logger = logging.getLogger(__name__)

CONCURRENT_RECONCILES = 8
PASS_AGE_SECONDS = 30.0
"""A polling pass takes a second or two; an older one means that the event loop stands still."""
RESYNC_AGE_SECONDS = 300.0
"""Older than several resyncs: the API server has not answered for minutes, or its connection is stuck."""


class Controller:
    """One controller process."""

    def __init__(self, settings: Settings, client: KubeClient, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._client = client
        self._metrics = Metrics()
        self._fleet = Fleet()
        self._queue = WorkQueue(self._measured, CONCURRENT_RECONCILES)
        self._polling = WorkerPolling(self._fleet, session, self._queue.add)
        self._reconciler = Reconciler(
            settings, client, self._fleet, LiveKitCheck(session), self._metrics, self._polling.ask_new
        )
        self._resync = Resync(client, settings.watch_namespace, self._fleet, self._queue.add)
        self._server = ControllerServer(
            fleet=self._fleet,
            metrics=self._metrics,
            authentication=GatewayAuthentication(client, settings.gateway_service_account),
            changed=self._queue.add,
            alive=self._stuck,
            ready=self._starting,
        )
        self._started = time.monotonic()

    async def run(self) -> None:
        """Run until kopf ends (SIGTERM, SIGINT) or a part fails."""
        async with self._server.listening(self._settings.port) as port, asyncio.TaskGroup() as group:
            logger.info("controller started", extra={"port": port, "namespace": self._settings.watch_namespace})
            tasks = [group.create_task(self._polling.run())]
            await self._resync.wait_for_resource()
            tasks += [group.create_task(self._queue.run()), group.create_task(self._resync.run())]
            await self._watch(tasks)

    async def _watch(self, tasks: list[asyncio.Task[None]]) -> None:
        """Run kopf; when it stops, so do the tasks."""

        def stopping() -> None:
            for task in tasks:
                task.cancel()

        namespace = self._settings.watch_namespace
        await kopf.operator(
            registry=handlers.registry(self._queue.add, self._client.server, stopping),
            settings=handlers.settings(),
            standalone=True,
            clusterwide=namespace is None,
            namespaces=[] if namespace is None else [namespace],
        )

    async def _measured(self, key: Key) -> float | None:
        started = time.monotonic()
        outcome = "error"
        try:
            again_in = await self._reconciler.reconcile(key)
            outcome = "success"
        except ApiError:
            outcome = "refused"
            raise
        finally:
            self._metrics.reconciled(outcome, time.monotonic() - started)
        return again_in

    def _stuck(self) -> str:
        now = time.monotonic()
        if now - self._polling.last_pass > PASS_AGE_SECONDS:
            return f"workers were last asked {now - self._polling.last_pass:.0f} s ago"
        listed = self._resync.last_success or self._started
        if now - listed > RESYNC_AGE_SECONDS:
            return f"AvatarAgents were last listed {now - listed:.0f} s ago"
        return ""

    def _starting(self) -> str:
        return "" if self._resync.last_success is not None else "AvatarAgents have not been listed yet"
