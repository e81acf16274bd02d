"""The client's watches over HTTP on loopback: accepted, rejected, ended, broken."""

import json
from typing import Any

import pytest
from aiohttp import web

from kube.client import ApiError, WatchEvent
from kube.kinds import POD
from tests.unit.kube.serving import Handler, serving

BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}


class Watched:
    """What a watch reported until it ended."""

    def __init__(self) -> None:
        self.accepted = 0
        self.events: list[WatchEvent] = []
        self.error: ApiError | None = None

    def on_open(self) -> None:
        assert not self.events, "a watch is accepted before its first event"
        self.accepted += 1


async def watched(handler: Handler) -> Watched:
    """Watch pods until the watch ends."""
    result = Watched()
    async with serving(handler) as client:
        try:
            async for event in client.watch(POD, None, "5", on_open=result.on_open):
                result.events.append(event)
        except ApiError as error:
            result.error = error
    return result


def sends(*events: Any) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.path == "/api/v1/pods"
        assert request.query["resourceVersion"] == "5"
        assert request.query["allowWatchBookmarks"] == "true"
        return web.Response(text="".join(json.dumps(event) + "\n" for event in events))

    return answer


async def test_accepted_watch_is_reported_before_its_events() -> None:
    result = await watched(sends(BOOKMARK))
    assert (result.accepted, result.error) == (1, None)
    assert result.events == [("BOOKMARK", BOOKMARK["object"])]


async def test_watch_without_events_is_accepted_too() -> None:
    result = await watched(sends())
    assert (result.accepted, result.events, result.error) == (1, [], None)


@pytest.mark.parametrize("status", [410, 429, 500])
async def test_rejected_watch_is_not_accepted(status: int) -> None:
    async def reject(_: web.Request) -> web.StreamResponse:
        return web.json_response({"reason": "Why", "message": "because"}, status=status)

    result = await watched(reject)
    assert result.accepted == 0
    assert result.error is not None
    assert (result.error.status, result.error.reason, result.error.message) == (status, "Why", "because")


@pytest.mark.parametrize(
    ("details", "status"),
    [
        pytest.param({"code": 410, "message": "too old"}, 410, id="with a code"),
        pytest.param({}, 500, id="without a code"),
    ],
)
async def test_error_event_is_no_broken_connection(details: dict[str, Any], status: int) -> None:
    result = await watched(sends(BOOKMARK, {"type": "ERROR", "object": details}))
    assert (result.accepted, len(result.events)) == (1, 1)
    assert result.error is not None
    assert result.error.status == status, "with status 0 the informer would resume and lose events"


async def test_invalid_event_is_a_broken_connection() -> None:
    async def send_half_an_event(_: web.Request) -> web.StreamResponse:
        return web.Response(text='{"type": "ADD')

    result = await watched(send_half_an_event)
    assert (result.accepted, result.events) == (1, [])
    assert result.error is not None
    assert result.error.status == 0
