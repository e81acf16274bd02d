"""Simulates all workers and OpenAI's `/models` in one process: ``python -m tests.bench.workers``.

It runs in the cluster's network, where it listens on all of 127.0.0.0/8. The pods have loopback addresses, and at each
it answers as that pod's worker would, registered and idle.
"""

import asyncio
import os
import sys
from collections import defaultdict
from pathlib import Path

from aiohttp import web

from agentspec import WorkerStatus
from agentspec.names import AGENT_LABEL, WORKER_PORT
from agentspec.wire import STATUS_HEARTBEAT_SECONDS
from kube.client import Document, KubeClient
from kube.kinds import POD
from tests.cluster.world import administrator

_ADDRESS_SECONDS = 10.0
"""Longest wait for a pod's address, in seconds: its status may be requested before this process sees the pod."""


class Workers:
    """Answers for every worker, by the address of its pod."""

    def __init__(self) -> None:
        self._agents: defaultdict[str, asyncio.Future[str]] = defaultdict(asyncio.get_running_loop().create_future)

    async def follow(self, client: KubeClient) -> None:
        """Watch the pods until cancelled."""
        pods, version = await client.list_with_version(POD, None)
        for pod in pods:
            self._record(pod)
        while True:
            async for _, pod in client.watch(POD, None, version):
                version = pod["metadata"]["resourceVersion"]
                self._record(pod)

    def _record(self, pod: Document) -> None:
        address = pod.get("status", {}).get("podIP")
        agent = pod["metadata"].get("labels", {}).get(AGENT_LABEL)
        if address and agent and not self._agents[address].done():
            self._agents[address].set_result(agent)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /status, and GET /status?watch with heartbeats only, because the status never changes."""
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        async with asyncio.timeout(_ADDRESS_SECONDS):
            agent = await asyncio.shield(self._agents[address])
        status = WorkerStatus(
            agent_name=agent, worker_id=f"AW_{address}", registered=True, draining=False, slots=1, calls=0
        ).model_dump_json(by_alias=True)
        if "watch" not in request.query:
            return web.Response(text=status, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        while True:
            await response.write(status.encode() + b"\n")
            await asyncio.sleep(STATUS_HEARTBEAT_SECONDS)


async def models(_: web.Request) -> web.Response:
    """Answer as OpenAI does for a valid key."""
    return web.json_response({"object": "model"})


async def main() -> None:
    """Serve until killed."""
    async with administrator(Path(os.environ["KUBECONFIG"])) as client:
        workers = Workers()
        application = web.Application()
        application.router.add_get("/status", workers.answer)
        application.router.add_get("/v1/models/{model}", models)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", WORKER_PORT, backlog=1024).start()
        await workers.follow(client)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
