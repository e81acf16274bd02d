"""Health and metrics, over a real connection."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from process import health
from process.health import exposition_of, health_app, serving
from tests.ports import free_port


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
