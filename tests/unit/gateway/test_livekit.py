"""What LiveKit says, read: participants, and answers of something that is not LiveKit."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.livekit import LiveKitServer, LiveKitUnreachable
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
