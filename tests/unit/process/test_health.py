"""Health and metrics, over a real connection."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram

from process import health
from process.health import exposition_of, health_app, serving
from process.metrics import SampledGauge
from tests.ports import free_port
from tests.waiting import soon


class Scene:
    """A server whose checks a test sets, and a client."""

    def __init__(self) -> None:
        self.live = self.ready = ""
        self.registry = CollectorRegistry()
        self.app = health_app(
            live=lambda: self.live,
            ready=lambda: self.ready,
            metrics=exposition_of(self.registry),
            max_body_bytes=100,
        )

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"{self.url}{path}") as response:
            return response.status, await response.text()

    session: aiohttp.ClientSession
    url: str


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    port = free_port()  # port 0 would be another port for each address family
    scene.app.router.add_post("/echo", _echo)
    async with serving(scene.app, port) as served_port, aiohttp.ClientSession() as scene.session:
        assert served_port == port
        scene.url = f"http://127.0.0.1:{port}"
        yield scene


async def _echo(request: web.Request) -> web.Response:
    return web.Response(text=await request.text())


async def test_checks_answer_ok_or_the_reason(scene: Scene) -> None:
    assert await scene.get("/livez") == (200, "ok\n")
    assert await scene.get("/readyz") == (200, "ok\n")
    scene.live, scene.ready = "the watch has stalled", "not listed yet"
    assert await scene.get("/livez") == (503, "the watch has stalled\n")
    assert await scene.get("/readyz") == (503, "not listed yet\n")


async def test_metrics_are_prometheus_text(scene: Scene) -> None:
    Counter("calls", "Calls.", registry=scene.registry).inc()
    async with scene.session.get(f"{scene.url}/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        assert "calls_total 1.0" in await response.text()


OPEN_METRICS = "application/openmetrics-text"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8"),
        (f"{OPEN_METRICS};version=1.0.0,text/plain;version=0.0.4;q=0.5", f"{OPEN_METRICS}; version=1.0.0"),
        (
            f"{OPEN_METRICS};version=1.0.0,{OPEN_METRICS};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            f"{OPEN_METRICS}; version=1.0.0",
        ),
    ],
    ids=["nothing", "anything", "text", "OpenMetrics", "Prometheus 2.42"],
)
async def test_format_of_metrics_is_negotiated(scene: Scene, accept: str, content_type: str) -> None:
    Histogram("wait_seconds", "Waits.", buckets=[1], registry=scene.registry).observe(0.5, {"call_id": "c1"})
    async with scene.session.get(f"{scene.url}/metrics", headers={"Accept": accept}) as response:
        text = await response.text()
        assert response.headers["Content-Type"].startswith(content_type)
    is_open = content_type.startswith(OPEN_METRICS)
    assert text.endswith("# EOF\n") is is_open
    assert ('# {call_id="c1"} 0.5' in text) is is_open, "only OpenMetrics has exemplars"


async def test_scrape_does_not_block_other_requests(scene: Scene) -> None:
    entered, leave = threading.Event(), threading.Event()

    def read() -> Iterable[tuple[tuple[str, ...], float]]:
        entered.set()
        assert leave.wait(5)
        return []

    SampledGauge("slow", "Waits.", [], read, registry=scene.registry)
    scrape = asyncio.create_task(scene.get("/metrics"))
    await soon(entered.is_set)
    assert await scene.get("/livez") == (200, "ok\n")
    leave.set()
    assert (await scrape)[0] == 200


async def test_process_adds_routes_with_bounded_bodies(scene: Scene) -> None:
    async with scene.session.post(f"{scene.url}/echo", data="a" * 100) as response:
        assert (response.status, await response.text()) == (200, "a" * 100)
    async with scene.session.post(f"{scene.url}/echo", data="a" * 101) as response:
        assert response.status == 413


async def test_port_in_use_is_an_os_error(scene: Scene) -> None:
    with pytest.raises(OSError):
        async with serving(Scene().app, int(scene.url.rpartition(":")[2])):
            pass
    assert await scene.get("/livez") == (200, "ok\n"), "the first server still answers"


class Handler:
    """A handler that never answers."""

    def __init__(self) -> None:
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()

    async def answer(self, _: web.Request) -> web.Response:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError("unreachable")


async def test_shutdown_cancels_requests_after_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SHUTDOWN_SECONDS", 0.2)
    handler, app, port = Handler(), Scene().app, free_port()
    app.router.add_get("/slow", handler.answer)
    clock = asyncio.get_running_loop().time
    async with aiohttp.ClientSession() as session:
        async with serving(app, port):
            request = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/slow"))
            await asyncio.wait_for(handler.started.wait(), 5)
            left_at = clock()
        assert 0.2 <= clock() - left_at < 2
        assert handler.cancelled.is_set()
        with pytest.raises(aiohttp.ClientError):
            await request


@pytest.mark.parametrize("cancellation", [True, False], ids=["cancelled", "not cancelled"])
async def test_handler_cancellation_follows_the_client_disconnect(cancellation: bool) -> None:
    handler, app, port = Handler(), Scene().app, free_port()
    app.router.add_get("/slow", handler.answer)
    async with serving(app, port, handler_cancellation=cancellation):
        async with aiohttp.ClientSession() as session:
            request = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/slow"))
            await asyncio.wait_for(handler.started.wait(), 5)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        if cancellation:
            await asyncio.wait_for(handler.cancelled.wait(), 5)
        else:
            # The server sees events in order: when it answers this request, it has seen the disconnect.
            async with aiohttp.request("GET", f"http://127.0.0.1:{port}/livez") as response:
                assert response.status == 200
            assert not handler.cancelled.is_set()
