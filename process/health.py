"""HTTP for the cluster: /livez, /readyz and /metrics. A process adds its own routes to the application."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from process.exposition import Exposition as Encoder

Check = Callable[[], str]
"""Returns why the check fails, in one line; an empty string when all is well."""
Exposition = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Returns the metrics in a format that an Accept header asks for, and their content type."""

MAX_BODY_BYTES: Final = 1024 * 1024
SHUTDOWN_SECONDS: Final = 2.0
"""How long requests in progress may take to end when the server stops."""


def exposition_of(registry: CollectorRegistry) -> Exposition:
    """Return an exposition of `registry`: OpenMetrics if the client accepts it, else Prometheus' text format.

    It is rendered in a thread: tens of thousands of series take some tenths of a second, and the event loop answers
    requests meanwhile.
    """
    encoder = Encoder(registry)

    async def render(accept: str) -> tuple[bytes, str]:
        return await asyncio.to_thread(encoder.encode, accept)

    return render


def health_app(
    *, live: Check, ready: Check, metrics: Exposition, max_body_bytes: int = MAX_BODY_BYTES
) -> web.Application:
    """Return an application with the three endpoints. A failed check answers 503 and its reason, else 200 and "ok"."""

    async def livez(_: web.Request) -> web.Response:
        return _answer(live())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(ready())

    async def scrape(request: web.Request) -> web.Response:
        body, content_type = await metrics(", ".join(request.headers.getall("Accept", [])))
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application(client_max_size=max_body_bytes)
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    return app


def _answer(fault: str) -> web.Response:
    return web.Response(text=f"{fault or 'ok'}\n", status=503 if fault else 200)


@asynccontextmanager
async def serving(app: web.Application, port: int, *, handler_cancellation: bool = False) -> AsyncIterator[int]:
    """Serve on all addresses within the context; yields the port.

    With `handler_cancellation` a handler is cancelled as soon as its client disconnects. Raises OSError when the port
    is in use.
    """
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=handler_cancellation, shutdown_timeout=SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
