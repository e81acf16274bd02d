"""Assembles the controller. Every replica serves HTTP; only the leader watches, reconciles and follows workers."""

import asyncio
import logging
import signal
import time
from collections.abc import Iterable

import aiohttp
import kopf
from kopf._cogs.clients.errors import APINotFoundError  # kopf exports no errors

from agentspec import KIND
from controller.apply import Applier
from controller.cluster.agents import Agents
from controller.cluster.children import Children
from controller.cluster.resync import Resync
from controller.cluster.shared_objects import SharedObjects
from controller.fleet.fleet import Fleet
from controller.fleet.jobs import WorkerJobs
from controller.fleet.streams import WorkerStreams
from controller.gather import Gatherer, read_clock
from controller.inputs.providers import Providers
from controller.inputs.reader import InputReader
from controller.inputs.references import References
from controller.metrics import Metrics, ReconcileOutcome
from controller.observation import Key
from controller.reconcile import Reconciler
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
RECONCILE_SECONDS = 90.0
"""Longest duration of a reconcile: more than the timeouts of a request to the API server (30 s) and of one to LiveKit
(5 s) together."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STALLED_SECONDS = 180.0
"""A watch that received nothing for this long, bookmarks included, does not recover by itself."""
HOUSEKEEPING_SECONDS = 1.0
KOPF_STOP_SECONDS = 0.5
SWEEP_SECONDS = 15.0
"""How often shared objects are deleted in namespaces without agents and workers."""


class Controller:
    """One controller process."""

    def __init__(
        self,
        settings: ControllerSettings,
        client: KubeClient,
        session: aiohttp.ClientSession,
        leadership: Leadership,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._client = client
        self._leadership = leadership
        self._metrics = metrics
        self._agents = Agents()
        self._synced = False
        """Whether this replica leads and has received the status of all agents' workers."""
        self._fleet = Fleet(self._metrics.record_worker_start)
        self._queue = WorkQueue(
            self._reconcile,
            CONCURRENT_RECONCILES,
            on_start=self._metrics.record_queue_wait,
            on_retry=self._metrics.record_retry,
        )
        self._references = References(client, self._queue.add)
        self._children = Children(client, settings.watch_namespace, self._child_changed)
        self._jobs = WorkerJobs(self._metrics.record_lost_worker)
        self._streams = WorkerStreams(
            self._fleet,
            self._jobs,
            session,
            self._queue.add,
            is_connected=lambda: self._leadership.is_connected,
        )
        self._shared = SharedObjects(self._children, self._agents, settings.worker_clients)
        inputs = InputReader(self._references, Providers(session, self._queue.add))
        self._reconciler = Reconciler(
            Gatherer(
                client,
                self._agents,
                inputs,
                self._children,
                self._shared,
                self._fleet,
                self._streams,
                clock=read_clock,
                lost=self._agent_removed,
            ),
            Applier(self._children, self._shared, inputs, self._fleet, self._metrics),
            Reporter(client, self._metrics, self._status_written, self._agent_removed),
            settings.worker_image,
        )
        self._resync = Resync(client, settings.watch_namespace, self._agents, self._agent_updated, self._agent_removed)
        self._server = ControllerServer(
            fleet=self._fleet,
            jobs=self._jobs,
            metrics=self._metrics,
            authentication=GatewayAuthentication(client, settings.gateway_service_account),
            enqueue=self._demand_changed,
            live=self._stalled_watch,
            ready=self._unready_reason,
            is_leader=lambda: self._leadership.held,
            has_synced=lambda: self._synced,
        )

    async def run(self) -> bool:
        """Run until SIGTERM or the CRD's removal (True), or until the Lease is lost (False).

        Raises the error of a part that failed.
        """
        async with self._server.serving(self._settings.port) as port, self._metrics.process.sampling():
            logger.info("controller started", extra={"port": port, "namespace": self._settings.watch_namespace})
            leading = asyncio.create_task(self._leadership.lead(self._work))
            for number in STOP_SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, leading.cancel)
            try:
                return await leading
            except asyncio.CancelledError:
                return True

    async def _work(self) -> None:
        """The leader's work."""
        self._metrics.start_leading(lambda: len(self._queue), self._agents.all, self._watch_contacts)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(informer.run()) for informer in self._children.informers]
            await self._resync.list_all()
            await self._children.wait_synced()
            await self._reconciler.sync(self._agents.all())
            self._synced = True
            parts = (self._queue.run(), self._resync.run(), self._references.run(), self._housekeep())
            tasks += [group.create_task(part) for part in parts]
            await self._watch(tasks)

    async def _watch(self, tasks: list[asyncio.Task[None]]) -> None:
        """Run kopf, and the tasks with it, until a signal or the CRD's removal stops it. Raises if kopf fails."""
        loop, stop_flag, others = asyncio.get_running_loop(), asyncio.Event(), asyncio.all_tasks()
        aborted = False

        def stop() -> None:
            for task in tasks:
                task.cancel()
            self._streams.cancel()
            self._server.events.close()
            # kopf would wait 5 s for tasks that it did not create, such as those of open HTTP connections.
            loop.call_later(KOPF_STOP_SECONDS, abort)

        def abort() -> None:
            nonlocal aborted
            aborted = True
            operator.cancel()

        namespace = self._settings.watch_namespace
        parts = await kopf.spawn_tasks(
            registry=handlers.registry(self._watch_updated, self._watch_removed, self._client.server, stop),
            settings=handlers.settings(),
            standalone=True,
            clusterwide=namespace is None,
            namespaces=[] if namespace is None else [namespace],
            stop_flag=stop_flag,
        )
        # Replaces kopf's signal handlers: kopf does not report whether a signal or a failure stopped it.
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stop_flag.set)
        operator = asyncio.create_task(kopf.run_tasks(parts, ignored=others), name="kopf")
        try:
            await operator
        except asyncio.CancelledError:
            if not aborted:
                raise
        except APINotFoundError:
            pass  # _explain_end finds it in the parts
        if not stop_flag.is_set():
            stop()  # kopf may have failed before it ran its cleanup
            _explain_end(parts)

    async def _housekeep(self) -> None:
        """Do what is due by time: drop stale reports, verify workers that fell silent, delete unused shared objects."""
        swept = time.monotonic()
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            now = time.monotonic()
            fell_silent = self._fleet.expire_workers(now)
            self._enqueue(self._fleet.expire_gateways(now) | fell_silent)
            for key in self._fleet.with_waiting_calls() | fell_silent:
                self._streams.verify(key)
            if time.monotonic() - swept > SWEEP_SECONDS:
                await self._shared.remove_unused()
                swept = time.monotonic()

    def _watch_updated(self, document: Document) -> None:
        self._resync.watch_progressed()
        self._agent_updated(document)

    def _watch_removed(self, key: Key, uid: str) -> None:
        self._resync.watch_progressed()
        self._agent_removed(key, uid)

    def _agent_updated(self, document: Document) -> None:
        self._enqueue(self._agents.update(document))

    def _agent_removed(self, key: Key, uid: str) -> None:
        self._resync.agent_deleted(uid)
        self._enqueue(self._agents.remove(key, uid))

    def _status_written(self, document: Document) -> None:
        self._enqueue(self._agents.update_from_response(document))

    def _child_changed(self, key: Key) -> None:
        """Enqueue the owner, or all agents of the namespace for an object that they share.

        The reconcile may be delayed. A worker whose pod is gone is lost now.
        """
        if key.name:
            self._streams.drop(key, self._children.pods(key))
        self._enqueue([key] if key.name else self._agents.in_namespace(key.namespace))

    def _demand_changed(self, key: Key) -> None:
        """Reconcile the agent. A call that waits may have been dispatched to a worker that hangs."""
        self._queue.add(key)
        if self._fleet.pending(key):
            self._streams.verify(key)

    def _enqueue(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._queue.add(key)

    async def _reconcile(self, key: Key) -> float | None:
        started = time.monotonic()
        outcome: ReconcileOutcome | None = ReconcileOutcome.CRASHED
        limit = asyncio.timeout(RECONCILE_SECONDS)
        try:
            async with limit:
                result = await self._reconciler.reconcile(key)
            outcome = ReconcileOutcome.REJECTED if result.rejected else ReconcileOutcome.SUCCESS
        except ApiError as error:
            outcome = ReconcileOutcome.REJECTED if error.is_rejection else ReconcileOutcome.FAILED
            raise
        except TimeoutError:
            outcome = ReconcileOutcome.TIMEOUT if limit.expired() else ReconcileOutcome.FAILED
            raise
        except asyncio.CancelledError:
            outcome = None  # by a shutdown; the next leader reconciles the agent
            raise
        finally:
            if outcome is not None:
                self._metrics.record_reconcile(outcome, time.monotonic() - started)
        return result.requeue_after

    def _watch_contacts(self) -> list[tuple[str, float]]:
        """The kind of each watch, and when the API server last sent anything for it, in monotonic seconds."""
        contacts = [(informer.kind.kind, informer.last_contact) for informer in self._children.informers]
        contacts.append((KIND, self._resync.last_success))
        return [(kind, at) for kind, at in contacts if at is not None]

    def _stalled_watch(self) -> str:
        """Which watch has stalled for good and needs a restart; empty: none.

        An outage of the API server is no reason: it costs the leader the Lease instead.
        """
        if not self._leadership.held:
            return ""
        now = time.monotonic()
        for informer in self._children.informers:
            if informer.last_contact is not None and now - informer.last_contact > STALLED_SECONDS:
                return f"the watch of {informer.kind.kind} has received nothing for {now - informer.last_contact:.0f} s"
        behind = self._resync.behind_since
        if behind is not None and now - behind > STALLED_SECONDS:
            return f"the watch of AvatarAgents has been behind for {now - behind:.0f} s"
        return ""

    def _unready_reason(self) -> str:
        """Why this replica is not ready; empty: it is. A standby is ready, because it could lead at once."""
        unsynced = self._unsynced_kinds() if self._leadership.held else []
        if unsynced:
            return f"not synced yet: {', '.join(unsynced)} (if this persists, check the log)"
        return self._leadership.error

    def _unsynced_kinds(self) -> list[str]:
        """The kinds whose objects have not been listed once."""
        agents = [KIND] if self._resync.last_success is None else []
        return agents + [informer.kind.kind for informer in self._children.informers if informer.last_contact is None]


def _explain_end(parts: Iterable[asyncio.Task[None]]) -> None:
    """Log that the CRD is gone, or raise why kopf ended by itself.

    kopf's watch cannot wait for a CRD. Resync.list_all can, so the next start continues when the CRD is back.
    """
    errors = [error for part in parts if part.done() and not part.cancelled() and (error := part.exception())]
    if any(isinstance(error, APINotFoundError) for error in errors):
        logger.warning("AvatarAgents are no longer served, ending: the next start waits for their CRD")
        return
    raise RuntimeError("kopf ended by itself") from next(iter(errors), None)
