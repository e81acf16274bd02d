"""What a watch says of itself, over HTTP on loopback: accepted, refused, ended, broken."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from kube.client import ApiError, KubeClient, WatchEvent
from kube.kinds import POD

HEARTBEAT = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}


class Watched:
    """A watch of pods that somebody follows."""

    def __init__(self) -> None:
        self.accepted = 0
        self.events: list[WatchEvent] = []

    def opened(self) -> None:
        assert not self.events, "before anything happens"
        self.accepted += 1


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[KubeClient]:
    """An API server that answers so."""
    application = web.Application()
    application.router.add_get("/api/v1/pods", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        async with client.ApiClient(configuration) as api:
            yield KubeClient(api, "test")
    finally:
        await runner.cleanup()


async def followed(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> tuple[Watched, ApiError | None]:
    """Until it ends: what was heard, and what it ended with."""
    watched = Watched()
    async with served(answer) as api:
        try:
            async for event in api.watch(POD, None, "5", on_open=watched.opened):
                watched.events.append(event)
        except ApiError as error:
            return watched, error
    return watched, None


def lines(*events: Any) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query["resourceVersion"] == "5"
        assert request.query["allowWatchBookmarks"] == "true"
        return web.Response(text="".join(json.dumps(event) + "\n" for event in events))

    return answer


async def test_one_that_is_accepted_says_so_before_anything_happens() -> None:
    watched, error = await followed(lines(HEARTBEAT))
    assert (watched.accepted, error) == (1, None)
    assert watched.events == [("BOOKMARK", HEARTBEAT["object"])]


async def test_one_in_which_nothing_happens_was_accepted_all_the_same() -> None:
    watched, error = await followed(lines())
    assert (watched.accepted, watched.events, error) == (1, [], None)


@pytest.mark.parametrize("status", [410, 429, 500])
async def test_one_that_is_refused_was_not_accepted(status: int) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"reason": "Why", "message": "because"}, status=status)

    watched, error = await followed(refuse)
    assert watched.accepted == 0
    assert error is not None
    assert (error.status, error.reason, error.message) == (status, "Why", "because")


@pytest.mark.parametrize(("said", "status"), [({"code": 410, "message": "too old"}, 410), ({}, 500)])
async def test_an_error_in_its_midst_is_never_taken_for_a_broken_connection(said: dict[str, Any], status: int) -> None:
    watched, error = await followed(lines(HEARTBEAT, {"type": "ERROR", "object": said}))
    assert (watched.accepted, len(watched.events)) == (1, 1)
    assert error is not None
    assert error.status == status, "0 would let it go on where it stood, and miss something"


async def test_what_is_no_event_is_a_broken_connection() -> None:
    async def babble(_: web.Request) -> web.StreamResponse:
        return web.Response(text='{"type": "ADD')

    watched, error = await followed(babble)
    assert (watched.accepted, watched.events) == (1, [])
    assert error is not None
    assert error.status == 0
