"""Simulates the kubelet and the worker process, because these tests have no node.

The stand-in binds every pod of a namespace to a Node object and reports it running and ready. The pod gets a loopback
address, on which a small server answers `/status` and `/status?watch` as a worker does.

A deleted pod drains until its calls end. The stand-in cuts the calls where a kubelet would kill the worker first: when
the grace period is shorter than the calls may still last, and when a pod is deleted by force. Time is
compressed: it cuts as soon as it sees the deletion, instead of when the grace period ends. A frozen worker is killed
when its grace period ends, and the worker of a pod that was deleted by force `KILL_SECONDS` later.
"""

import asyncio
import contextlib
import errno
import ipaddress
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from agentspec import WorkerStatus
from agentspec.names import AGENT_LABEL, WORKER_PORT
from agentspec.wire import (
    JOBS_QUERY,
    STAGES_QUERY,
    STATUS_HEARTBEAT_SECONDS,
    JobReport,
    JobState,
    ProviderStage,
    StageFailure,
    StageReport,
    StageReports,
)
from kube.client import ApiError, KubeClient
from kube.kinds import POD
from tests.waiting import eventually

NODE = "stand-in"
PERIOD_SECONDS = 0.1
FORCED = "the pod was deleted by force"
"""Reason of calls that were cut without a grace period."""
KILL_SECONDS = 2.0
"""From a deletion by force until the worker is killed. A kubelet takes as long: watches report the pod's end first."""
# A worker reports a change after 0.05 s.
_POLL_SECONDS = 0.05
_addresses = itertools.count(int(ipaddress.IPv4Address("127.88.0.1")))


def working_stages() -> StageReports:
    """Return outcomes of which each succeeded just now."""
    success = StageReport(succeeded_at=time.time())
    return StageReports(stt=success, llm=success, tts=success)


def failing_stage(stages: StageReports, stage: ProviderStage, **failure: Any) -> StageReports:
    """Return the outcomes after a request of one stage that failed just now."""
    before = stages.of(stage)
    failed = StageFailure(at=time.time(), error="APIStatusError", **failure)
    after = before.model_copy(update={"failure": failed, "failures": before.failures + 1})
    return stages.model_copy(update={stage.value: after})


@dataclass
class Worker:
    """Simulated worker of one pod; tests set its fields."""

    pod: str
    agent: str
    agent_name: str
    slots: int
    calls: int = 0
    call_seconds: float = 3600.0
    """How long its calls may still last: the default of spec.worker.maxCallMinutes."""
    registered: bool = True
    draining: bool = False
    awake: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """Set unless its process hangs: connections are accepted then, and nothing is answered."""
    address: str = ""
    """Address of its pod; empty until it serves."""
    registrations: int = 1
    """Number of its registrations: each gives it another worker id at LiveKit, which changes nothing else."""
    stages: StageReports = field(default_factory=working_stages)
    """Outcomes of its requests to providers; by default its trial has succeeded."""
    runner: web.AppRunner | None = field(default=None, repr=False)

    def status(self) -> WorkerStatus:
        return WorkerStatus(
            agent_name=self.agent_name,
            worker_id=f"AW_{self.pod}_{self.registrations}",
            registered=self.registered,
            draining=self.draining,
            slots=self.slots,
            calls=self.calls,
            stages=self.stages,
            jobs=self.jobs(),
        )

    def jobs(self) -> list[JobReport]:
        """Return one joined job for each of its calls."""
        names = [f"{self.pod}-{number}" for number in range(self.calls)]
        return [JobReport(job_id=f"AJ_{name}", room=f"room-{name}", state=JobState.JOINED) for name in names]

    def _document(self, request: web.Request) -> str:
        """Return the status as the reader may have it: a worker sends some fields only to readers that ask for them."""
        optional = {STAGES_QUERY: "stages", JOBS_QUERY: "jobs"}
        return self.status().model_dump_json(
            by_alias=True, exclude={field for query, field in optional.items() if query not in request.query}
        )

    async def serve(self) -> None:
        self.awake.set()
        application = web.Application()
        application.router.add_get("/status", self._answer)
        self.runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self.runner.setup()
        for address in _addresses:
            self.address = str(ipaddress.IPv4Address(address))
            try:
                return await web.TCPSite(self.runner, self.address, WORKER_PORT).start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # another run of these tests may use the address
                    raise

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await self.awake.wait()
        if "watch" in request.query:
            return await self._stream(request)
        return web.Response(text=self._document(request), content_type="application/json")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Send a line at once, one after every change, and a heartbeat."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        sent: WorkerStatus | None = None
        sent_at = 0.0
        while True:
            await self.awake.wait()
            status, now = self.status(), time.monotonic()
            if status != sent or now - sent_at >= STATUS_HEARTBEAT_SECONDS:
                await response.write(self._document(request).encode() + b"\n")
                sent, sent_at = status, now
            await asyncio.sleep(_POLL_SECONDS)

    async def kill(self) -> None:
        """End as SIGKILL ends a process: the kernel closes all its sockets."""
        assert self.runner is not None and self.runner.server is not None
        for site in list(self.runner.sites):
            await site.stop()
        for connection in self.runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await self.end()

    async def end(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None


@dataclass(frozen=True)
class CutCalls:
    """Calls that a worker lost because its pod did not get the time to drain."""

    pod: str
    calls: int
    reason: str


class StandIn:
    """Simulates the node for one namespace."""

    def __init__(self, client: KubeClient, namespace: str, period: float) -> None:
        self._client = client
        self._namespace = namespace
        self._period = period
        self.workers: dict[str, Worker] = {}
        """Running workers by pod name."""
        self.registered_name: dict[str, str] = {}
        """Name that an agent's new workers register under; default: the agent's own."""
        self.waiting: dict[str, str] = {}
        """Agents whose pods do not start, with the container's waiting reason."""
        self.held: dict[str, dict[str, Any]] = {}
        """Agents whose new pods stay in this status."""
        self.slots = 1
        """Slots of new workers."""
        self.cut_calls: list[CutCalls] = []
        """Calls that were cut. `open_world` fails its test when any are left in here."""
        self._passes = 0
        self._forced: dict[str, float] = {}
        """When each deletion by force of a running worker's pod was first seen (monotonic seconds), by pod name."""

    def of(self, agent: str) -> list[Worker]:
        """Return an agent's workers that do not drain."""
        return [worker for worker in self.workers.values() if worker.agent == agent and not worker.draining]

    def is_in_call(self, worker: Worker) -> bool:
        """Whether the worker still runs, and has calls."""
        return self.workers.get(worker.pod) is worker and worker.calls > 0

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set: cancelling would interrupt requests and leave sockets open."""
        while not stop.is_set():
            # As with a kubelet, a pod may be deleted while its status is written, and the API server may not answer.
            # The next pass does what this one could not do.
            with contextlib.suppress(ApiError):
                await self._pass()
                self._passes += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._period)

    async def sees_pods(self) -> None:
        """Wait until the stand-in has acted on every pod as it is now: for a whole pass that begins after this call."""
        passes = self._passes + 2

        async def has_passed() -> bool:
            return self._passes >= passes

        await eventually(has_passed, "the stand-in lists the pods")

    async def lose(self, worker: Worker) -> None:
        """Lose a worker with its node, as the node's controller reports it: the pod is unready and stays."""
        worker.awake.clear()
        await self.unready(worker)

    async def unready(self, worker: Worker) -> None:
        """Report a worker's pod unready."""
        conditions = [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]
        await self._report(worker.pod, {"conditions": conditions})

    async def _pass(self) -> None:
        pods = {pod["metadata"]["name"]: pod for pod in await self._client.list(POD, self._namespace)}
        await self._kill_forced(pods)
        for name, pod in pods.items():
            with contextlib.suppress(ApiError):
                if pod["metadata"].get("deletionTimestamp"):
                    await self._drain(name, pod["metadata"])
                elif name not in self.workers:
                    await self._start(name, pod)

    async def _kill_forced(self, pods: dict[str, dict[str, Any]]) -> None:
        """Kill the workers whose pods were deleted by force. Until then they still report their calls."""
        now = time.monotonic()
        for name in [name for name in self.workers if _is_forced(pods.get(name))]:
            if name not in self._forced:
                self._forced[name] = now
                self._record_cut(self.workers[name], FORCED)
            elif now - self._forced[name] >= KILL_SECONDS:
                del self._forced[name]
                await self.workers.pop(name).end()

    async def _start(self, name: str, pod: dict[str, Any]) -> None:
        agent = pod["metadata"]["labels"].get(AGENT_LABEL, "")
        if not pod["spec"].get("nodeName"):
            await bind(self._client, self._namespace, name, NODE)
        if agent in self.waiting:
            return await self._report(name, _waiting(self.waiting[agent]))
        if agent in self.held:
            return await self._report(name, self.held[agent])
        worker = Worker(name, agent, self.registered_name.get(agent, agent), slots=self.slots)
        await worker.serve()
        try:
            await self._report(name, _running(worker.address))
        except ApiError:
            await worker.end()
            raise
        self.workers[name] = worker
        return None

    def _record_cut(self, worker: Worker, reason: str) -> None:
        if worker.calls:
            self.cut_calls.append(CutCalls(worker.pod, worker.calls, reason))

    async def _drain(self, name: str, metadata: dict[str, Any]) -> None:
        worker, grace_seconds = self.workers.get(name), metadata["deletionGracePeriodSeconds"]
        killed = datetime.fromisoformat(metadata["deletionTimestamp"]) <= datetime.now(UTC)
        if worker is not None:
            if grace_seconds == 0:
                return  # deleted by force
            worker.draining = True
            if grace_seconds < worker.call_seconds:
                self._record_cut(worker, f"the grace period of {grace_seconds} s is shorter than a call may last")
                worker.calls = 0
            if worker.calls or not (worker.awake.is_set() or killed):
                return
            await self.workers.pop(name).end()
        path = POD.path(self._namespace, name)
        await self._client._request("DELETE", path, {"gracePeriodSeconds": "0"})

    async def _report(self, name: str, status: dict[str, Any]) -> None:
        path = POD.path(self._namespace, name, "status")
        content_type = "application/merge-patch+json"
        await self._client._request("PATCH", path, None, {"status": status}, content_type=content_type)


async def bind(client: KubeClient, namespace: str, pod: str, node: str) -> None:
    """Assign a pod to a node, as the scheduler does."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}
    await client._request("POST", POD.path(namespace, pod, "binding"), None, binding)


def _is_forced(pod: dict[str, Any] | None) -> bool:
    """Whether the pod of a running worker was deleted by force. The API server marks a pod before it removes it."""
    return pod is None or pod["metadata"].get("deletionGracePeriodSeconds") == 0


def _running(address: str) -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "ContainersReady", "Ready")]
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}


def _waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "Back-off pulling image"}}
    container = {"name": "worker", "image": "none", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Pending", "containerStatuses": [container]}


@asynccontextmanager
async def simulating_node(client: KubeClient, namespace: str, period: float = PERIOD_SECONDS) -> AsyncIterator[StandIn]:
    """Run a stand-in until the block ends; it lists the pods every `period` seconds."""
    standin = StandIn(client, namespace, period)
    stop = asyncio.Event()
    task = asyncio.create_task(standin.run(stop))
    try:
        yield standin
    finally:
        stop.set()
        await task
        for worker in standin.workers.values():
            await worker.end()
