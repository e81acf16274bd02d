"""A receiver of call reports: verifies each request as Standard Webhooks says, without the product's code.

HMAC is computed here as RFC 2104 defines it.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

SIGNING_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_BLOCK = 64


def signature(key: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature that a request must have."""
    secret = base64.b64decode(key.removeprefix("whsec_")).ljust(_BLOCK, b"\0")
    content = f"{message_id}.{timestamp}.".encode() + body
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in secret) + content).digest()
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in secret) + inner).digest()
    return "v1," + base64.b64encode(outer).decode()


class Receiver:
    """What a receiver got. It answers with the `statuses`, one a request, then with 204."""

    def __init__(self) -> None:
        self.url = ""
        self.reports: list[dict[str, Any]] = []
        """Accepted ones."""
        self.ids: list[str] = []
        """The ids of all requests."""
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        """Of every answer."""
        self.faults: list[str] = []
        """Why requests were not valid."""
        self.answers = asyncio.Event()
        """While it is cleared, requests wait for their answer."""
        self.answers.set()

    async def receive(self, request: web.Request) -> web.Response:
        """Verify a request and answer it."""
        body = await request.read()
        message_id, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        if request.headers["webhook-signature"] != signature(SIGNING_KEY, message_id, timestamp, body):
            self.faults.append(f"{message_id}: wrong signature")
            return web.Response(status=401)
        self.ids.append(message_id)
        status = self.statuses.pop(0) if self.statuses else 204
        if status == 204:
            self.reports.append(json.loads(body))
        await self.answers.wait()
        return web.Response(status=status, headers=self.headers)


@asynccontextmanager
async def receiving(host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of `host`."""
    receiver = Receiver()
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_post("/calls", receiver.receive)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0)
        await site.start()
        port = runner.addresses[0][1]
        receiver.url = f"http://{host}:{port}/calls"
        yield receiver
    finally:
        await runner.cleanup()
