"""Stands in for the kubelet and the worker process: there is no node here.

Every pod of a namespace is bound to a Node object, gets a loopback address on which a small server answers `/status`
and `/status?watch` like a worker, and is reported running and ready. A pod that is deleted stays, draining, until it
has no calls.
"""

import asyncio
import contextlib
import errno
import ipaddress
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from agentspec import WorkerStatus
from agentspec.names import AGENT_LABEL, WORKER_PORT
from kube.client import ApiError, KubeClient
from kube.kinds import POD

NODE = "stand-in"
PERIOD_SECONDS = 0.1
# A change is told after 0.05 s, and the present state again after 20 s without one.
_LOOK_SECONDS = 0.05
_LOOKS_BETWEEN_HEARTBEATS = 400
_addresses = itertools.count(int(ipaddress.IPv4Address("127.88.0.1")))


@dataclass
class Worker:
    """One pod's worker; tests set its fields."""

    pod: str
    agent: str
    agent_name: str
    slots: int
    calls: int = 0
    registered: bool = True
    draining: bool = False
    address: str = ""
    """Its pod's; empty until it serves."""
    registrations: int = 1
    """Each gives it another id at LiveKit, which means nothing to anybody."""
    runner: web.AppRunner | None = field(default=None, repr=False)

    def status(self) -> WorkerStatus:
        return WorkerStatus(
            agent_name=self.agent_name,
            worker_id=f"AW_{self.pod}_{self.registrations}",
            registered=self.registered,
            draining=self.draining,
            slots=self.slots,
            calls=self.calls,
        )

    async def serve(self) -> None:
        application = web.Application()
        application.router.add_get("/status", self._answer)
        self.runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self.runner.setup()
        for address in _addresses:
            self.address = str(ipaddress.IPv4Address(address))
            try:
                return await web.TCPSite(self.runner, self.address, WORKER_PORT).start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # by the stand-in of another run of these tests
                    raise

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._stream(request)
        return web.Response(text=self.status().model_dump_json(by_alias=True), content_type="application/json")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """A line at once, one after every change, and one now and then."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        while True:
            told = self.status()
            await response.write(told.model_dump_json(by_alias=True).encode() + b"\n")
            for _ in range(_LOOKS_BETWEEN_HEARTBEATS):
                await asyncio.sleep(_LOOK_SECONDS)
                if self.status() != told:
                    break

    async def end(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None


class StandIn:
    """Plays the node for one namespace."""

    def __init__(self, client: KubeClient, namespace: str, period: float) -> None:
        self._client = client
        self._namespace = namespace
        self._period = period
        self.workers: dict[str, Worker] = {}
        """Workers that run, by pod name."""
        self.registered_name: dict[str, str] = {}
        """Name that an agent's new workers register under; default: the agent's own."""
        self.waiting: dict[str, str] = {}
        """Agents whose pods do not start, with the container's waiting reason."""

    def of(self, agent: str) -> list[Worker]:
        """An agent's workers that stay."""
        return [worker for worker in self.workers.values() if worker.agent == agent and not worker.draining]

    async def run(self, stop: asyncio.Event) -> None:
        """Play until told to stop: cancelling would cut requests short and leave sockets open."""
        while not stop.is_set():
            # A pod that is deleted while it is being reported on is what happens to a kubelet, too, and so is an
            # API server that does not answer: what has not been done is done in the next pass.
            with contextlib.suppress(ApiError):
                await self._pass()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._period)

    async def _pass(self) -> None:
        pods = {pod["metadata"]["name"]: pod for pod in await self._client.list(POD, self._namespace)}
        for name in set(self.workers) - set(pods):
            await self.workers.pop(name).end()
        for name, pod in pods.items():
            with contextlib.suppress(ApiError):
                if pod["metadata"].get("deletionTimestamp"):
                    await self._drain(name)
                elif name not in self.workers:
                    await self._start(name, pod)

    async def _start(self, name: str, pod: dict[str, Any]) -> None:
        agent = pod["metadata"]["labels"].get(AGENT_LABEL, "")
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            await self._client._request("POST", POD.path(self._namespace, name, "binding"), None, binding)
        if agent in self.waiting:
            return await self._report(name, _waiting(self.waiting[agent]))
        worker = Worker(name, agent, self.registered_name.get(agent, agent), slots=1)
        await worker.serve()
        try:
            await self._report(name, _running(worker.address))
        except ApiError:
            await worker.end()
            raise
        self.workers[name] = worker
        return None

    async def _drain(self, name: str) -> None:
        worker = self.workers.get(name)
        if worker is not None:
            worker.draining = True
            if worker.calls:
                return
            await self.workers.pop(name).end()
        path = POD.path(self._namespace, name)
        await self._client._request("DELETE", path, {"gracePeriodSeconds": "0"})

    async def _report(self, name: str, status: dict[str, Any]) -> None:
        path = POD.path(self._namespace, name, "status")
        content_type = "application/merge-patch+json"
        await self._client._request("PATCH", path, None, {"status": status}, content_type=content_type)


def _running(address: str) -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "ContainersReady", "Ready")]
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}


def _waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "Back-off pulling image"}}
    container = {"name": "worker", "image": "none", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Pending", "containerStatuses": [container]}


@asynccontextmanager
async def playing(client: KubeClient, namespace: str, period: float = PERIOD_SECONDS) -> AsyncIterator[StandIn]:
    """A stand-in that plays until the block ends, looking every `period` seconds."""
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
