"""What LiveKit says, read: participants, and answers of something that is not LiveKit."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit import api

from gateway.livekit import LiveKitServer, LiveKitUnreachable, _participant
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
            await LiveKitServer(some_website, CREDENTIALS, session).rooms()


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
