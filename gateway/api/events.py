"""The state of a call as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from gateway.api.views import CallView
from gateway.calls.call import CallState
from gateway.calls.ledger import Ledger

STREAM_SECONDS: Final = 300.0
"""Longest duration of one stream. The client then opens the next one."""
WAITING_SECONDS: Final = 2.0
"""Interval between two looks at the position of a waiting call. A change of state is sent at once."""
PING_SECONDS: Final = 15.0
"""Longest time without a byte, so that proxies keep the connection."""
_LIVE: Final = (CallState.WAITING, CallState.DISPATCHED, CallState.JOINED)


class EventStream(StreamingResponse):
    """A stream of server-sent events.

    With FastAPI's own `EventSourceResponse`, a route is a generator, and cannot answer an error any more.
    """

    media_type = "text/event-stream"


def stream(ledger: Ledger, view: Callable[[], CallView | None], closing: asyncio.Event) -> EventStream:
    """Return a response with one event for each change of a call, until the call is over or ``closing`` is set.

    ``view`` returns None once another gateway follows the call. The stream ends then too.
    """
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(_events(ledger, view, closing), headers=headers)


async def _events(ledger: Ledger, view: Callable[[], CallView | None], closing: asyncio.Event) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    ends_at, sent, sent_at = clock() + STREAM_SECONDS, "", 0.0
    while (found := view()) is not None:
        text = found.model_dump_json(by_alias=True)
        if text != sent:
            yield format_sse_event(event="call", data_str=text)
            sent, sent_at = text, clock()
        elif clock() - sent_at >= PING_SECONDS:
            yield KEEPALIVE_COMMENT
            sent_at = clock()
        remaining = ends_at - clock()
        if found.state not in _LIVE or closing.is_set() or remaining <= 0:
            return
        pause = WAITING_SECONDS if found.state is CallState.WAITING else PING_SECONDS
        await _wait(ledger, found, closing, min(pause, remaining))


async def _wait(ledger: Ledger, found: CallView, closing: asyncio.Event, seconds: float) -> None:
    """Wait until the call's state changes, the gateway closes its streams, or the time is over."""
    tasks = [
        asyncio.ensure_future(ledger.wait_for_change(found.call_id, found.state, seconds)),
        asyncio.ensure_future(closing.wait()),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
