"""GET /v1/events: the jobs of workers, streamed to gateways as they change.

A response begins with the present state and an empty line. Each change follows at once, and an empty line after a
second without one.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from agentspec.wire import EVENTS_HEARTBEAT_SECONDS, GATEWAY_QUERY, WorkerCalls, render
from controller.fleet.jobs import WorkerJobs

MAX_STREAMS: Final = 256
"""One more stream ends the oldest. Each gateway has one: its second ends its first, whose connection may be lost."""
MAX_QUEUED_LINES: Final = 4096
"""A reader that is further behind is cut off. It reconnects and gets the present state."""
WRITE_SECONDS: Final = 5.0
"""A reader that receives nothing for this long is cut off."""


class EventStreams:
    """The open streams."""

    def __init__(self, jobs: WorkerJobs, is_leader: Callable[[], bool], clock: Callable[[], float]) -> None:
        """`clock`: the monotonic clock of `jobs`."""
        self._jobs = jobs
        self._is_leader = is_leader
        self._clock = clock
        self._streams: dict[asyncio.Queue[bytes], str] = {}
        """The lines to send, and the gateway, of each stream, oldest first. A stream that is not here ends."""
        jobs.listeners.add(self._publish)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Stream the present state and all changes until the reader, `close` or the loss of the Lease ends it."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        await response.prepare(request)
        lines = self._add(request.query.get(GATEWAY_QUERY, ""))
        try:
            await self._stream(response, lines)
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()  # the end of a response waits for its reader, too
        finally:
            self._end(lines)
        return response

    def close(self) -> None:
        """End all streams."""
        for lines in tuple(self._streams):
            self._end(lines)

    def _add(self, gateway: str) -> asyncio.Queue[bytes]:
        """Add a stream of a gateway; empty: one that gives no name, which may have several."""
        for other, name in tuple(self._streams.items()):
            if gateway and name == gateway:
                self._end(other)
        if len(self._streams) >= MAX_STREAMS:
            self._end(next(iter(self._streams)))
        lines: asyncio.Queue[bytes] = asyncio.Queue(MAX_QUEUED_LINES)
        self._streams[lines] = gateway
        return lines

    async def _stream(self, response: web.StreamResponse, lines: asyncio.Queue[bytes]) -> None:
        data = b"".join(_line(calls) for calls in self._jobs.current(self._clock())) + b"\n"
        while lines in self._streams and self._is_leader():
            await asyncio.wait_for(response.write(data), WRITE_SECONDS)
            data = await _next(lines)

    def _publish(self, calls: WorkerCalls) -> None:
        if not self._streams:
            return
        line = _line(calls)
        for lines in tuple(self._streams):
            try:
                lines.put_nowait(line)
            except asyncio.QueueFull:
                self._end(lines)

    def _end(self, lines: asyncio.Queue[bytes]) -> None:
        """Remove a stream, and wake it."""
        self._streams.pop(lines, None)
        if lines.empty():
            lines.put_nowait(b"")


async def _next(lines: asyncio.Queue[bytes]) -> bytes:
    """Return all lines that wait, or an empty one when there is none for a second."""
    try:
        waiting = [await asyncio.wait_for(lines.get(), EVENTS_HEARTBEAT_SECONDS)]
    except TimeoutError:
        return b"\n"
    while not lines.empty():
        waiting.append(lines.get_nowait())
    return b"".join(waiting)


def _line(calls: WorkerCalls) -> bytes:
    return render(calls).encode() + b"\n"
