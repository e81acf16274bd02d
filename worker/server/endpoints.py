"""The worker's HTTP endpoints: /livez, /readyz, /metrics and /status."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from aiohttp import web

from agentspec.wire import WorkerStatus, render
from process import health
from worker.server import metrics
from worker.server.status_stream import StatusWatch, status_for


class HasStatus(Protocol):
    """The part of a worker that the endpoints need."""

    def status(self) -> WorkerStatus: ...


def unready(status: WorkerStatus) -> str:
    """Return why the worker takes no calls; an empty string when it does."""
    if status.draining:
        return "draining: finishing calls, accepting no more"
    if status.code_failure:
        return f"own code cannot be used: {status.code_failure}"
    if not status.registered:
        return "not registered with LiveKit: see the log for the error of the last attempt"
    return ""


def make_app(worker: HasStatus) -> web.Application:
    """Return the application with all endpoints."""
    watch = StatusWatch(worker.status)

    async def status(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await watch.answer(request)
        return web.Response(text=render(status_for(request, worker.status())), content_type="application/json")

    async def end_watches(_: web.Application) -> None:
        watch.close()

    app = health.health_app(live=lambda: "", ready=lambda: unready(worker.status()), metrics=metrics.exposition)
    app.on_shutdown.append(end_watches)
    app.router.add_get("/status", status)
    return app


def serve(worker: HasStatus, port: int) -> AbstractAsyncContextManager[int]:
    """Serve on all addresses within the context; the end of a watcher's connection is noticed at once."""
    return health.serving(make_app(worker), port, handler_cancellation=True)
