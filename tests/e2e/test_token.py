"""A React app made for LiveKit calls an agent with tokens of the gateway's token endpoint, in a real browser."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from livekit import api
from playwright.sync_api import expect

from devkit import nodejs
from tests.e2e import agents
from tests.e2e.browser import browser_page
from tests.e2e.conftest import Platform
from tests.e2e.test_page import LOUDEST
from tests.ports import free_port
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

PACKAGE = Path(__file__).with_name("npm")
PAGE = b"""<!doctype html>
<title>An app that is made for LiveKit</title>
<div id="root"></div>
<script type="module" src="/page.js"></script>
"""
"""The page of a website. Its script uses LiveKit's React components only, and nothing of the gateway's."""


def script(token_url: str, agent_name: str) -> bytes:
    """Return the page's script with React and LiveKit's components, as a website's build makes it."""
    folder = nodejs.install(PACKAGE)
    defined = {"TOKEN_URL": token_url, "AGENT_NAME": agent_name, "process.env.NODE_ENV": "production"}
    options = ["--bundle", "--format=esm", "--jsx=automatic"]
    options += [f"--define:{name}={json.dumps(value)}" for name, value in defined.items()]
    return nodejs.run(folder, "node_modules/esbuild/bin/esbuild", "page.jsx", *options).encode()


@contextmanager
def website(port: int, javascript: bytes) -> Iterator[str]:
    """Serve the page on an origin of its own. Yields its URL."""
    files = {"/": ("text/html", PAGE), "/page.js": ("text/javascript", javascript)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = files.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{port}"
        finally:
            server.shutdown()
            thread.join()


def rooms_of(platform: Platform, agent: str) -> list[str]:
    """Return the names of an agent's rooms in LiveKit."""

    async def names() -> list[str]:
        targets = platform.targets
        async with api.LiveKitAPI(targets.livekit_url, targets.livekit_key, targets.livekit_secret) as livekit:
            return [room.name for room in (await livekit.room.list_rooms(api.ListRoomsRequest())).rooms]

    with ThreadPoolExecutor(1) as pool:  # the browser's event loop runs in this thread
        found = pool.submit(asyncio.run, names()).result()
    return [name for name in found if name.startswith(f"{agent}-")]


def counts(platform: Platform, agent: str) -> tuple[int, int, int]:
    """Return the agent's calls in progress, waiting calls, and taken slots, as its status reports them."""
    status = platform.product.get("avataragent", agent)["status"]
    calls, slots = status["calls"], status["slots"]
    return calls["active"], calls["pending"], slots["total"] - slots["free"]


def test_react_app_calls_the_agent_and_its_page_loads_open_nothing(platform: Platform, tmp_path: Path) -> None:
    port = free_port()
    agent = agents.manifest(platform.targets, "tokens", arabic=True)
    agent["spec"]["persona"]["greeting"] *= 3  # it lasts until its sound is measured, also on a busy machine
    agent["spec"]["dispatch"] |= {"access": "Public", "allowedOrigins": [f"http://localhost:{port}"]}
    token_url = f"{platform.gateway}/v1/token"
    javascript = script(token_url, agent["spec"]["agentName"])
    with (
        agents.declared(platform.product, agent) as name,
        website(port, javascript) as url,
        browser_page(tmp_path / "profile") as page,
    ):
        tokens: list[int] = []
        page.on("response", lambda answer: tokens.append(answer.status) if answer.url == token_url else None)
        for _ in range(10):
            with page.expect_response(token_url):
                page.goto(url)
        assert tokens == [201] * 10, "useSession asks for a token when the page loads"
        expect(page.locator("#state")).to_have_text("disconnected")
        assert rooms_of(platform, name) == []
        assert counts(platform, name) == (0, 0, 0)

        page.get_by_role("button", name="Start call").click()
        expect(page.locator("#state")).to_have_text("speaking", timeout=30_000)
        eventually_blocking(lambda: page.evaluate(LOUDEST) > 0.02, "the browser plays the agent's voice", 30)
        expect(page.locator("#captions")).not_to_be_empty(timeout=30_000)
        assert tokens == [201] * 10, "the call uses the token of the page load"
        assert len(rooms_of(platform, name)) == 1
        eventually_blocking(lambda: counts(platform, name) == (1, 0, 1), "the call is counted", 30)
