"""``/status?watch``: a worker's state as a stream of lines, one for every change.

What the state depends on changes in the SDK's own lists too, which tell nobody; so the state is compared, twenty times
a second for as long as somebody watches (a third of a percent of a core), and not at all otherwise.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from agentspec import WorkerStatus
from agentspec.wire import STATUS_HEARTBEAT_SECONDS, render

LOOK_SECONDS: Final = 0.05
WRITE_SECONDS: Final = 10.0
"""A watcher that takes nothing for so long is gone."""
MAX_WATCHERS: Final = 8
"""With one more, the one that has watched longest is let go: a dead connection must not keep a living one out."""


class StatusWatch:
    """Streams the state to watchers, until each leaves or `close` is called."""

    def __init__(self, read: Callable[[], WorkerStatus]) -> None:
        self._read = read
        self._watchers: list[object] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Stream: the present state at once, every change soon, the state again when nothing changes for long."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        await response.prepare(request)
        me = object()
        self._watchers = [*self._watchers[-(MAX_WATCHERS - 1) :], me]
        try:
            await self._stream(response, me)
        finally:
            if me in self._watchers:
                self._watchers.remove(me)
        return response

    async def _stream(self, response: web.StreamResponse, me: object) -> None:
        now = asyncio.get_running_loop().time
        sent: WorkerStatus | None = None
        sent_at = 0.0
        while me in self._watchers:
            state = self._read()
            if state != sent or now() - sent_at >= STATUS_HEARTBEAT_SECONDS:
                sent, sent_at = state, now()
                line = render(state) + "\n"
                try:
                    await asyncio.wait_for(response.write(line.encode()), WRITE_SECONDS)
                except (TimeoutError, ConnectionError):
                    return
            await asyncio.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Let every watcher go; their streams end in order."""
        self._watchers.clear()
