"""A page that is made for LiveKit calls an agent with tokens of the gateway's token endpoint, in a real browser."""

import asyncio
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from livekit import api
from playwright.sync_api import Page, expect

from tests.e2e import agents
from tests.e2e.browser import browser_page
from tests.e2e.conftest import Platform
from tests.e2e.test_page import LOUDEST
from tests.ports import free_port
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

PAGE = """<!doctype html>
<title>An app that is made for LiveKit</title>
<button id="call">Call</button><p id="state">loading</p><p id="captions"></p>
<script type="module">
import { Room, RoomEvent, TokenSource } from "/livekit-client.esm.mjs";

const state = document.getElementById("state");
const source = TokenSource.endpoint("TOKEN_URL");
const options = { agentName: "AGENT_NAME", participantName: "Layla", agentMetadata: '{"language": "ar"}' };
const first = await source.fetch(options); // as useSession does when a page loads
state.textContent = "ready";

document.getElementById("call").onclick = async () => {
  const { serverUrl, participantToken } = await source.fetch(options);
  if (participantToken !== first.participantToken) throw new Error("the token was not used again");
  const room = new Room();
  room.on(RoomEvent.TrackSubscribed, (track) => document.body.append(track.attach()));
  room.registerTextStreamHandler("lk.transcription", async (reader) => {
    document.getElementById("captions").textContent += await reader.readAll();
  });
  await room.connect(serverUrl, participantToken);
  await room.localParticipant.setMicrophoneEnabled(true);
  state.textContent = "connected";
};
</script>
"""
"""The page of a website. It uses LiveKit's client only, and nothing of the gateway's."""


@contextmanager
def website(port: int, page: str, client: bytes) -> Iterator[str]:
    """Serve the page and livekit-client on an origin of their own. Yields its URL."""
    files = {"/": ("text/html", page.encode()), "/livekit-client.esm.mjs": ("text/javascript", client)}

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


def load(page: Page, url: str) -> None:
    """Load the page until it has its token."""
    page.goto(url)
    expect(page.locator("#state")).to_have_text("ready")


def test_app_made_for_livekit_calls_the_agent_and_its_page_loads_open_nothing(
    platform: Platform, tmp_path: Path
) -> None:
    port = free_port()
    agent = agents.manifest(platform.targets, "tokens")
    agent["spec"]["dispatch"] |= {"access": "Public", "allowedOrigins": [f"http://localhost:{port}"]}
    with urllib.request.urlopen(f"{platform.gateway}/assets/livekit-client.esm.mjs", timeout=10) as answer:
        client = answer.read()
    with agents.declared(platform.product, agent) as name:
        document = PAGE.replace("TOKEN_URL", f"{platform.gateway}/v1/token").replace("AGENT_NAME", "tokens-agent")
        with website(port, document, client) as url, browser_page(tmp_path / "profile") as page:
            for _ in range(10):
                load(page, url)
            assert rooms_of(platform, name) == []
            assert counts(platform, name) == (0, 0, 0)

            page.get_by_role("button", name="Call").click()
            expect(page.locator("#state")).to_have_text("connected", timeout=30_000)
            eventually_blocking(lambda: page.evaluate(LOUDEST) > 0.02, "the browser plays the agent's voice", 30)
            expect(page.locator("#captions")).not_to_be_empty(timeout=30_000)
            assert len(rooms_of(platform, name)) == 1
            eventually_blocking(lambda: counts(platform, name) == (1, 0, 1), "the call is counted", 30)
