"""Puts the parts together: every controller serves HTTP, and the one that leads watches, reconciles and listens."""

import asyncio
import logging
import signal
import time
from collections.abc import Iterable

import aiohttp
import kopf

from agentspec import KIND
from controller.apply import Applier
from controller.cluster.agents import Agents
from controller.cluster.children import Children
from controller.cluster.resync import Resync
from controller.cluster.shared_objects import SharedObjects
from controller.fleet.fleet import Fleet
from controller.fleet.streams import WorkerStreams
from controller.inputs.providers import Providers
from controller.inputs.reader import InputReader
from controller.inputs.references import References
from controller.metrics import Metrics
from controller.observation import Key
from controller.reconcile import Parts, Reconciler
from controller.report import Reporter
from controller.runtime import handlers
from controller.runtime.authentication import GatewayAuthentication
from controller.runtime.leadership import Leadership
from controller.runtime.server import ControllerServer
from controller.runtime.settings import ControllerSettings
from controller.runtime.workqueue import WorkQueue
from kube.client import ApiError, Document, KubeClient

logger = logging.getLogger(__name__)

CONCURRENT_RECONCILES = 16
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STALLED_SECONDS = 180.0
"""A watch that has heard nothing for so long, bookmarks included, and did not mend itself, never will."""
HOUSEKEEPING_SECONDS = 1.0
KOPF_STOP_SECONDS = 0.5
SWEEP_SECONDS = 15.0
"""How often namespaces are looked at in which nothing is left."""


class Controller:
    """One controller process."""

    def __init__(
        self, settings: ControllerSettings, client: KubeClient, session: aiohttp.ClientSession, leadership: Leadership
    ) -> None:
        self._settings = settings
        self._client = client
        self._leadership = leadership
        self._metrics = Metrics()
        self._agents = Agents()
        self._taken_up = False
        """It leads, and has listened to the workers of all agents."""
        self._fleet = Fleet()
        self._queue = WorkQueue(self._measured, CONCURRENT_RECONCILES)
        self._references = References(client, self._queue.add)
        self._children = Children(client, settings.watch_namespace, self._child_changed)
        self._streams = WorkerStreams(self._fleet, session, self._queue.add)
        self._shared = SharedObjects(self._children, self._agents, settings.worker_clients)
        self._reconciler = Reconciler(
            Parts(
                agents=self._agents,
                children=self._children,
                inputs=InputReader(self._references, Providers(session, self._queue.add)),
                fleet=self._fleet,
                streams=self._streams,
                applier=Applier(self._children, self._shared, self._fleet, self._metrics, settings.worker_image),
                reporter=Reporter(client, self._agent_answered, self._agent_lost),
                metrics=self._metrics,
            )
        )
        self._resync = Resync(client, settings.watch_namespace, self._agents, self._agent_seen, self._agent_lost)
        self._server = ControllerServer(
            fleet=self._fleet,
            metrics=self._metrics,
            authentication=GatewayAuthentication(client, settings.gateway_service_account),
            enqueue=self._queue.add,
            live=self._stuck,
            ready=self._not_ready,
            is_leader=lambda: self._leadership.held,
            has_synced=lambda: self._taken_up,
        )

    async def run(self) -> bool:
        """Run until SIGTERM (true), or until the Lease is lost (false). Raises what a part fails with."""
        async with self._server.serving(self._settings.port) as port:
            logger.info("controller started", extra={"port": port, "namespace": self._settings.watch_namespace})
            leading = asyncio.create_task(self._leadership.lead(self._work))
            for number in STOP_SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, leading.cancel)
            try:
                return await leading
            except asyncio.CancelledError:
                return True

    async def _work(self) -> None:
        """What only the leader does."""
        self._metrics.leads(lambda: len(self._queue), self._agents.all)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(informer.run()) for informer in self._children.informers]
            await self._resync.list_all()
            await self._children.wait_listed()
            await self._reconciler.take_up(self._agents.all())
            self._taken_up = True
            parts = (self._queue.run(), self._resync.run(), self._references.run(), self._keep_house())
            tasks += [group.create_task(part) for part in parts]
            await self._watch(tasks)

    async def _watch(self, tasks: list[asyncio.Task[None]]) -> None:
        """Run kopf until a signal asks it to stop; when it stops, so do the tasks. Raises if it ends by itself."""
        loop, asked, others = asyncio.get_running_loop(), asyncio.Event(), asyncio.all_tasks()
        cut = False

        def stopping() -> None:
            for task in tasks:
                task.cancel()
            self._streams.cancel()
            # kopf would wait 5 s for tasks that are none of its own, such as those of open HTTP connections.
            loop.call_later(KOPF_STOP_SECONDS, cutting)

        def cutting() -> None:
            nonlocal cut
            cut = True
            operator.cancel()

        namespace = self._settings.watch_namespace
        parts = await kopf.spawn_tasks(
            registry=handlers.registry(self._told_seen, self._told_lost, self._client.server, stopping),
            settings=handlers.settings(),
            standalone=True,
            clusterwide=namespace is None,
            namespaces=[] if namespace is None else [namespace],
            stop_flag=asked,
        )
        # Taken back from kopf: it does not tell whether it stopped because of them or because a part of it failed.
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, asked.set)
        operator = asyncio.create_task(kopf.run_tasks(parts, ignored=others), name="kopf")
        try:
            await operator
        except asyncio.CancelledError:
            if not cut:
                raise
        if not asked.is_set():
            raise RuntimeError("kopf ended by itself")

    async def _keep_house(self) -> None:
        """What only time brings about."""
        swept = time.monotonic()
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            self._look_at(self._fleet.forget_silent_gateways(time.monotonic()))
            if time.monotonic() - swept > SWEEP_SECONDS:
                await self._shared.remove_unused()
                swept = time.monotonic()

    def _told_seen(self, document: Document) -> None:
        self._resync.watch_progressed()
        self._agent_seen(document)

    def _told_lost(self, key: Key, uid: str) -> None:
        self._resync.watch_progressed()
        self._agent_lost(key, uid)

    def _agent_seen(self, document: Document) -> None:
        self._look_at(self._agents.update(document))

    def _agent_lost(self, key: Key, uid: str) -> None:
        self._resync.agent_deleted(uid)
        self._look_at(self._agents.remove(key, uid))

    def _agent_answered(self, document: Document) -> None:
        self._look_at(self._agents.update_from_response(document))

    def _child_changed(self, key: Key) -> None:
        """What serves a whole namespace concerns all its agents."""
        self._look_at([key] if key.name else self._agents.in_namespace(key.namespace))

    def _look_at(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._queue.add(key)

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
        """What has stalled for good and needs a restart; a stopped API server takes the Lease away instead."""
        if not self._leadership.held:
            return ""
        now = time.monotonic()
        for informer in self._children.informers:
            if informer.last_contact is not None and now - informer.last_contact > STALLED_SECONDS:
                return f"the watch of {informer.kind.kind} was last heard {now - informer.last_contact:.0f} s ago"
        behind = self._resync.behind_since
        if behind is not None and now - behind > STALLED_SECONDS:
            return f"the watch of AvatarAgents has been behind for {now - behind:.0f} s"
        return ""

    def _not_ready(self) -> str:
        """A standby is ready: it would lead at once."""
        unlisted = self._unlisted() if self._leadership.held else []
        if unlisted:
            return f"not listed yet: {', '.join(unlisted)} (if this stays, the log says why)"
        return self._leadership.trouble

    def _unlisted(self) -> list[str]:
        """Kinds of which it is not known yet what there is."""
        agents = [KIND] if self._resync.last_success is None else []
        return agents + [informer.kind.kind for informer in self._children.informers if informer.last_contact is None]
