"""``/status?watch``: the worker status as a stream of lines, one for every change.

Parts of the status come from lists of the SDK, which emits no event when they change. So each watcher's stream reads
the status twenty times a second, which takes a third of a percent of a core. Without watchers nothing is read.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from agentspec import WorkerStatus
from agentspec.wire import JOBS_QUERY, MAX_AVATARS_QUERY, STAGES_QUERY, STATUS_HEARTBEAT_SECONDS, render
from worker import avatar_limit

POLL_SECONDS: Final = 0.05
WRITE_SECONDS: Final = 10.0
"""A watcher that receives nothing for this long is considered lost."""
_MAX_DIGITS: Final = 6
MAX_WATCHERS: Final = 8
"""One more watcher ends the oldest stream: a lost connection must not keep a new watcher out."""


def status_for(request: web.Request, status: WorkerStatus) -> WorkerStatus:
    """Return the status as its reader may have it: the stages and the jobs are only for readers that ask for them."""
    optional = {STAGES_QUERY: "stages", JOBS_QUERY: "jobs"}
    unasked = {field: None for query, field in optional.items() if query not in request.query}
    return status.model_copy(update=unasked) if unasked else status


class StatusWatch:
    """Streams the status to watchers until they disconnect or `close` is called."""

    def __init__(self, read: Callable[[], WorkerStatus]) -> None:
        self._read = read
        self._watchers: list[object] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Stream the current status at once, every change within POLL_SECONDS, and the status again as a heartbeat."""
        if (limit := request.query.get(MAX_AVATARS_QUERY)) is not None:
            avatar_limit.publish(int(limit) if limit.isdecimal() and len(limit) <= _MAX_DIGITS else None)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        await response.prepare(request)
        watcher = object()
        self._watchers = [*self._watchers[-(MAX_WATCHERS - 1) :], watcher]
        try:
            await self._stream(request, response, watcher)
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse, watcher: object) -> None:
        now = asyncio.get_running_loop().time
        sent: WorkerStatus | None = None
        sent_at = 0.0
        watching = True
        while watching:
            watching = watcher in self._watchers  # an ended stream sends the last status: which calls have ended
            status = status_for(request, self._read())
            if status != sent or now() - sent_at >= STATUS_HEARTBEAT_SECONDS:
                sent, sent_at = status, now()
                line = render(status) + "\n"
                try:
                    await asyncio.wait_for(response.write(line.encode()), WRITE_SECONDS)
                except (TimeoutError, ConnectionError):
                    return
            if watching:
                await asyncio.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End all streams cleanly."""
        self._watchers.clear()
