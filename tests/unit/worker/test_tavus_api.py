"""Conversations at the simulated Tavus: created at most once, found again by their names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.agents import APIConnectionError, APIStatusError

from devkit.providers.tavus.app import TavusSettings, make_app
from worker import tavus_api
from worker.avatar_sessions import AvatarName
from worker.tavus_api import ConversationRequest, TavusAPI

KEY = "tavus-simulated-key"
NAME = AvatarName("uid-1.0a1b2c3d", "AJ_1", "ornina-c1")
NEVER_JOINS = {"kind": "never_joins"}
PROPERTIES = {"livekit_ws_url": "ws://127.0.0.1:9", "livekit_room_token": "secret-token"}


@asynccontextmanager
async def tavus(*faults: dict[str, Any], key: str = KEY) -> AsyncIterator[TavusAPI]:
    """Tavus, whose avatars never join, because there is no room here."""
    app = make_app(KEY, TavusSettings.model_validate({"faults": [NEVER_JOINS, *faults]}))
    async with TestServer(app, handler_cancellation=True) as server, aiohttp.ClientSession() as session:
        yield TavusAPI(lambda: session, str(server.make_url("/v2/")), key)


async def create(api: TavusAPI, name: object = NAME) -> str:
    return await api.create(str(name), "p", "f", PROPERTIES, 5.0)


def request(api: TavusAPI, *, answer_seconds: float = 5.0, max_seconds: float = 600.0) -> ConversationRequest:
    return ConversationRequest(api, NAME, max_seconds=max_seconds, answer_seconds=answer_seconds)


async def test_active_conversations_of_this_product_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tavus_api, "_PAGE_SIZE", 2)
    async with tavus() as api:
        names = [AvatarName("uid-1", f"AJ_{number}", "r") for number in range(5)]
        ids = [await create(api, name) for name in names]
        await create(api, "lk_conversation_1")
        assert await api.end(ids[0], attempts=1, seconds=5) == ""
        assert {(found.id, found.name) for found in await api.active()} == set(zip(ids[1:], names[1:], strict=True))


async def test_failed_end_says_why() -> None:
    async with tavus() as api:
        assert await api.end("missing", attempts=2, seconds=5) == "HTTP 400"


async def test_failed_list_is_an_error() -> None:
    async with tavus(key="wrong") as api:
        with pytest.raises(APIStatusError):
            await api.active()


@asynccontextmanager
async def answering(text: str) -> AsyncIterator[TavusAPI]:
    """A server that answers every request with this JSON."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/v2/conversations", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield TavusAPI(lambda: session, str(server.make_url("/v2/")), KEY)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{}",
        '{"data": null}',
        '{"data": {"0": {}}}',
        '{"data": [null]}',
        f'{{"data": [{{"conversation_name": "{NAME}", "status": "active"}}]}}',
        f'{{"data": [{{"conversation_name": "{NAME}", "status": "active", "conversation_id": null}}]}}',
    ],
    ids=["null", "list", "no data", "data null", "data no list", "entry null", "entry without id", "id null"],
)
async def test_malformed_list_is_an_error_that_says_so(text: str) -> None:
    async with answering(text) as api:
        with pytest.raises(APIConnectionError, match="the list of conversations is malformed"):
            await api.active()


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"conversation_id": null}'])
async def test_malformed_answer_may_have_created_a_conversation(text: str) -> None:
    async with answering(text) as api:
        asked = request(api)
        with pytest.raises(APIConnectionError, match="the answer of Tavus is malformed"):
            await asked.create_conversation(pal_id="p", face_id="f", properties=PROPERTIES)
        assert asked.may_be_open


async def test_answered_request_leaves_nothing_open() -> None:
    async with tavus() as api:
        asked = request(api)
        created = await asked.create_conversation(pal_id="p", face_id="f", properties=PROPERTIES)
        assert [(found.id, found.name) for found in await api.active()] == [(created, NAME)]
        assert not asked.may_be_open


async def test_lost_answer_is_not_requested_again() -> None:
    async with tavus({"kind": "lost_answer"}) as api:
        asked = request(api, answer_seconds=0.2)
        with pytest.raises(APIConnectionError):
            await asked.create_conversation(pal_id="p", face_id="f", properties=PROPERTIES)
        assert asked.may_be_open
        assert [found.name for found in await api.active()] == [NAME]


async def test_cancelled_request_may_be_open() -> None:
    async with tavus({"kind": "lost_answer"}) as api:
        asked = request(api)
        creating = asyncio.create_task(asked.create_conversation(pal_id="p", face_id="f", properties=PROPERTIES))
        while not await api.active():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)
        creating.cancel()
        await asyncio.wait({creating})
        assert asked.may_be_open


@pytest.mark.parametrize(
    ("fault", "may_be_open", "error"),
    [
        ({"kind": "401", "times": 1}, False, APIStatusError),
        ({"kind": "500", "times": 1}, True, APIStatusError),
        ({"kind": "429", "times": 2}, False, APIStatusError),
        ({"kind": "429", "times": 1}, False, None),
    ],
    ids=["refused", "server error", "too many requests", "too many requests once"],
)
async def test_refused_request(
    monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], may_be_open: bool, error: type[Exception] | None
) -> None:
    monkeypatch.setattr(tavus_api, "_RETRY_SECONDS", 0.01)
    async with tavus(fault) as api:
        asked = request(api)
        creating = asked.create_conversation(pal_id="p", face_id="f", properties=PROPERTIES)
        if error is None:
            await creating
        else:
            with pytest.raises(error):
                await creating
        assert asked.may_be_open is may_be_open
        assert len(await api.active()) == (error is None)


async def test_request_that_was_never_sent_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tavus_api, "_RETRY_SECONDS", 0.01)
    async with aiohttp.ClientSession() as session:
        asked = request(TavusAPI(lambda: session, "http://127.0.0.1:9/v2", KEY))
        with pytest.raises(APIConnectionError):
            await asked.create_conversation(pal_id="p", face_id="f", properties=PROPERTIES)
        assert not asked.may_be_open


@pytest.mark.parametrize(("seconds", "limit"), [(600, 600), (7200, 3600)], ids=["short call", "Tavus' own limit"])
async def test_tavus_itself_ends_a_conversation_that_all_forgot(seconds: float, limit: int) -> None:
    sent: list[dict[str, Any]] = []

    class FakeAPI:
        async def create(self, _name: str, _pal: str, _face: str, properties: dict[str, Any], _seconds: float) -> str:
            sent.append(properties)
            return "c1"

    asked = request(cast(TavusAPI, FakeAPI()), max_seconds=seconds)
    await asked.create_conversation(pal_id="p", face_id="f", properties=PROPERTIES)
    assert sent == [PROPERTIES | {"max_call_duration": limit}]
