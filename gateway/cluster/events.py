"""Hears from the controller what workers report about their calls: one long response, a line for each change."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import aiohttp
from pydantic import ValidationError

from agentspec.wire import EVENTS_HEARTBEAT_SECONDS, GATEWAY_QUERY, WorkerCalls, read
from gateway.cluster.supply import authorization
from gateway.settings import GatewaySettings

CONNECT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 3 * EVENTS_HEARTBEAT_SECONDS
"""A stream without a line or a heartbeat for this long is broken."""
RETRY_SECONDS: Final = 0.5
_MAX_LINE_BYTES: Final = 256 * 1024

logger = logging.getLogger(__name__)


class Receiver(Protocol):
    """What takes in the reports."""

    def begin(self) -> None:
        """A new stream begins, with every worker that has jobs."""

    def receive(self, calls: WorkerCalls) -> None:
        """One worker has reported."""


class WorkerEvents:
    """The stream of the workers' reports, opened again whenever it ends."""

    def __init__(
        self, settings: GatewaySettings, session: aiohttp.ClientSession, receiver: Receiver, gateway: str
    ) -> None:
        """``gateway`` is this gateway's name."""
        self._gateway = gateway
        self._settings = settings
        self._session = session
        self._receiver = receiver
        self._heard_at: float | None = None
        self._is_up: bool | None = None

    def is_heard(self) -> bool:
        """Return whether the stream is open and alive."""
        return self._heard_at is not None and time.monotonic() - self._heard_at < SILENCE_SECONDS

    async def run(self) -> None:
        """Receive until cancelled. Without a controller, return."""
        if not self._settings.controller_url:
            return
        while True:
            try:
                async with self._stream() as lines:
                    await self._receive(lines)
                error = "the controller ended the stream"
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as failure:
                error = str(failure) or type(failure).__name__
            self._heard_at = None
            self._report(False, error)
            await asyncio.sleep(RETRY_SECONDS)

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[aiohttp.StreamReader]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        url = f"{self._settings.controller_url}/v1/events"
        headers, params = await authorization(self._settings), {GATEWAY_QUERY: self._gateway}
        async with self._session.get(
            url, params=params, headers=headers, timeout=timeout, read_bufsize=_MAX_LINE_BYTES
        ) as response:
            if response.status != 200:
                raise ValueError(f"the controller answered {response.status}")
            yield response.content

    async def _receive(self, lines: aiohttp.StreamReader) -> None:
        self._receiver.begin()
        async for line in lines:
            if not self.is_heard():
                self._report(True, "")
            self._heard_at = time.monotonic()
            if not line.strip():
                continue
            try:
                calls = read(WorkerCalls, line)
            except ValidationError as error:
                logger.warning("invalid worker report ignored", extra={"error": str(error)[:200]})
            else:
                self._receiver.receive(calls)

    def _report(self, is_up: bool, error: str) -> None:
        if is_up == self._is_up:
            return
        self._is_up = is_up
        if is_up:
            logger.info("worker event stream connected")
        else:
            logger.warning("worker event stream lost, reading rooms instead", extra={"error": error})
