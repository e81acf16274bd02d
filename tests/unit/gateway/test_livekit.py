"""What LiveKit says, read: participants, and answers of something that is not LiveKit."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit import api

from gateway.livekit import LiveKitError, LiveKitRefused, LiveKitServer, LiveKitUnreachable, RoomMissing, _participant
from tests.unit.gateway.fakes import CREDENTIALS


@pytest.fixture
async def some_website() -> AsyncIterator[str]:
    """The URL of a web server that answers everything with a page."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>")

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", page)
    async with TestServer(application) as server:
        yield str(server.make_url("")).replace("http", "ws")


async def test_a_url_of_something_else_is_no_livekit(some_website: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(LiveKitUnreachable, match="not LiveKit"):
            await LiveKitServer(some_website, CREDENTIALS, session, lambda: None).rooms()


@pytest.mark.parametrize(
    ("status", "code", "error", "told"),
    [
        (401, "unauthenticated", LiveKitRefused, 1),
        (404, "not_found", RoomMissing, 0),
        (429, "resource_exhausted", LiveKitUnreachable, 0),
        (503, "unavailable", LiveKitUnreachable, 0),
    ],
)
async def test_a_refusal_is_told_to_whoever_keeps_the_credentials(
    status: int, code: str, error: type[LiveKitError], told: int
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"code": code, "msg": "no"}, status=status)

    refusals: list[None] = []
    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", answer)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        url = str(server.make_url(""))
        with pytest.raises(error):
            await LiveKitServer(url, CREDENTIALS, session, lambda: refusals.append(None)).rooms()
    assert len(refusals) == told


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"lk.agent_name": "ornina-agent"}, "ornina-agent"),
        ({"lk.agent_name": "ornina-agent", "lk.agent.name": "another"}, "ornina-agent"),
        ({"lk.agent.name": "ornina-agent"}, "ornina-agent"),
        ({"lk.agent_name": "ornina-agent", "lk.publish_on_behalf": "agent-1"}, ""),
        ({}, ""),
    ],
    ids=["as the server says", "the server is believed first", "an old server", "an avatar", "nameless"],
)
def test_an_agent_s_name(attributes: dict[str, str], name: str) -> None:
    info = api.ParticipantInfo(identity="a", kind=api.ParticipantInfo.Kind.AGENT, attributes=attributes)
    assert _participant(info).agent_name == name
    person = api.ParticipantInfo(identity="a", kind=api.ParticipantInfo.Kind.STANDARD, attributes=attributes)
    assert _participant(person).agent_name == ""
