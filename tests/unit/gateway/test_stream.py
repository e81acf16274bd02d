"""The state of a call as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.api.events import PING_SECONDS, STREAM_SECONDS, stream
from gateway.api.views import CallView, call_view
from gateway.calls.call import CallReason, CallState
from gateway.calls.ledger import Ledger
from tests.unit.gateway.fakes import World
from tests.unit.gateway.scenes import DISPATCHED, JOINED, WAITING, call_token_of, post_call
from tests.unit.gateway.test_http import rejected

ENDED = replace(JOINED, state=CallState.ENDED, reason=CallReason.CALLER_LEFT)
PING = {"comment": "ping"}


@pytest.fixture
def ledger() -> Ledger:
    """A ledger with one waiting call."""
    created = Ledger()
    created.put(WAITING)
    return created


def events(ledger: Ledger, closing: asyncio.Event | None = None) -> AsyncIterator[dict[str, Any]]:
    """The events of the call, parsed: a call, or `PING`."""

    def view() -> CallView:
        call = ledger.get(WAITING.id)
        assert call is not None
        return call_view(call, ledger.position(call), None)

    async def parsed() -> AsyncIterator[dict[str, Any]]:
        async for chunk in stream(ledger, view, closing or asyncio.Event()).body_iterator:
            assert isinstance(chunk, bytes) and chunk.endswith(b"\n\n")
            text = chunk.decode().strip()
            if text.startswith(":"):
                yield PING
                continue
            kind, data = text.split("\n")
            assert kind == "event: call"
            yield json.loads(data.removeprefix("data: "))

    return parsed()


async def test_every_change_of_state_is_one_event_and_the_end_is_the_last(ledger: Ledger) -> None:
    found = []
    async for event in events(ledger):
        found.append((event["state"], event["reason"]))
        if following := {"waiting": DISPATCHED, "dispatched": JOINED, "joined": ENDED}.get(event["state"]):
            ledger.put(following)
    assert found == [("waiting", ""), ("dispatched", ""), ("joined", ""), ("ended", "CallerLeft")]


async def test_change_between_two_events_is_not_lost(ledger: Ledger) -> None:
    found = events(ledger)
    assert (await anext(found))["state"] == "waiting"
    ledger.put(JOINED)
    ledger.put(ENDED)
    assert [event["state"] async for event in found] == ["ended"]


async def test_waiting_call_hears_of_its_position(virtual_time: object, ledger: Ledger) -> None:
    ledger.put(replace(WAITING, id="earlier", room="ornina-earlier", created_at=WAITING.created_at - 1))
    found = events(ledger)
    assert (await anext(found))["position"] == 2
    ledger.remove("earlier")
    assert (await anext(found))["position"] == 1


async def test_quiet_stream_sends_pings_and_ends_in_time(virtual_time: object, ledger: Ledger) -> None:
    ledger.put(JOINED)
    started = asyncio.get_running_loop().time()
    found = [event async for event in events(ledger)]
    assert found[0]["state"] == "joined"
    assert STREAM_SECONDS / PING_SECONDS - 2 <= found[1:].count(PING) == len(found) - 1
    assert asyncio.get_running_loop().time() - started == pytest.approx(STREAM_SECONDS, abs=1)


async def test_stream_ends_when_the_gateway_stops(virtual_time: object, ledger: Ledger) -> None:
    closing = asyncio.Event()
    found = events(ledger, closing)
    await anext(found)
    asyncio.get_running_loop().call_later(1, closing.set)
    started = asyncio.get_running_loop().time()
    assert [event async for event in found] == []
    assert asyncio.get_running_loop().time() - started < PING_SECONDS


async def test_stream_leaves_no_task_behind(ledger: Ledger) -> None:
    before = asyncio.all_tasks()
    closing = asyncio.Event()
    closing.set()
    assert len([event async for event in events(ledger, closing)]) == 1
    async for _ in events(ledger):
        ledger.put(ENDED)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_stream_over_http_requires_the_call_token(http: httpx.AsyncClient, world: World) -> None:
    call = await post_call(http)
    path = f"/v1/calls/{call['callId']}/events"
    rejected(await http.get(path), 404, "CallNotFound")
    world.gateway.closing.set()
    response = await http.get(path, headers=call_token_of(call))
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (response.headers["Cache-Control"], response.headers["X-Accel-Buffering"]) == ("no-store", "no")
    assert response.text.startswith("event: call\ndata: {")
