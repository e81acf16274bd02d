"""The worker's HTTP endpoints: /livez, /readyz, /status and /metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from agentspec import WorkerStatus
from worker.server import metrics
from worker.server.status_stream import StatusWatch


class HasStatus(Protocol):
    """The worker, as far as the endpoints need it."""

    def status(self) -> WorkerStatus: ...


def readiness(status: WorkerStatus) -> tuple[bool, str]:
    """Whether the worker takes calls, and why not."""
    if status.draining:
        return False, "draining: finishing calls, taking no more\n"
    if not status.registered:
        return False, "not registered with LiveKit: see the log for the last attempt's error\n"
    return True, "registered\n"


def make_app(worker: HasStatus) -> web.Application:
    """The endpoints' application."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        ready, text = readiness(worker.status())
        return web.Response(text=text, status=200 if ready else 503)

    watch = StatusWatch(worker.status)

    async def status(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await watch.answer(request)
        return web.Response(text=worker.status().model_dump_json(by_alias=True), content_type="application/json")

    async def exposition(_: web.Request) -> web.Response:
        body = await asyncio.to_thread(metrics.render)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def end_watches(_: web.Application) -> None:
        watch.close()

    app = web.Application()
    app.on_shutdown.append(end_watches)
    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/status", status),
            web.get("/metrics", exposition),
        ]
    )
    return app


@asynccontextmanager
async def serve(worker: HasStatus, port: int) -> AsyncIterator[None]:
    """Answer on `port`, on all interfaces, within the context."""
    # A watcher that hangs up is noticed at once, not at its next line.
    runner = web.AppRunner(make_app(worker), access_log=None, handler_cancellation=True, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()
