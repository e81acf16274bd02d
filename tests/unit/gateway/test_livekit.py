"""The LiveKit client: participants, and error responses."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from livekit import api

from gateway.livekit import server
from gateway.livekit.server import (
    LiveKitError,
    LiveKitRefused,
    LiveKitServer,
    LiveKitUnreachable,
    RoomMissing,
    _participant,
)
from tests.unit.gateway.fakes import CREDENTIALS
from tests.unit.gateway.scenes import livekit_server


async def test_server_that_is_not_livekit_is_reported_as_unreachable() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>")

    async with livekit_server(page) as url, aiohttp.ClientSession() as session:
        with pytest.raises(LiveKitUnreachable, match="not LiveKit"):
            await LiveKitServer(url, CREDENTIALS, session, lambda: None).rooms()


async def test_server_that_hangs_is_unreachable_after_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.1)
    observed: list[tuple[str, str]] = []

    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async with livekit_server(hang) as url, aiohttp.ClientSession() as session:
        livekit = LiveKitServer(
            url, CREDENTIALS, session, lambda: None, lambda method, code, _: observed.append((method, code))
        )
        for request, method in ((livekit.rooms(), "ListRooms"), (livekit.participants("room"), "ListParticipants")):
            with pytest.raises(LiveKitUnreachable, match="TimeoutError"):
                await asyncio.wait_for(request, 10)
            assert observed.pop() == (method, server.UNREACHABLE)


@pytest.mark.parametrize(
    ("status", "code", "error", "reports"),
    [
        (401, "unauthenticated", LiveKitRefused, 1),
        (404, "not_found", RoomMissing, 0),
        (429, "resource_exhausted", LiveKitUnreachable, 0),
        (503, "unavailable", LiveKitUnreachable, 0),
    ],
)
async def test_error_status_maps_to_an_error_and_rejections_are_reported(
    status: int, code: str, error: type[LiveKitError], reports: int
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"code": code, "msg": "no"}, status=status)

    rejections: list[None] = []
    async with livekit_server(answer) as url, aiohttp.ClientSession() as session:
        with pytest.raises(error):
            await LiveKitServer(url, CREDENTIALS, session, lambda: rejections.append(None)).rooms()
    assert len(rejections) == reports


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"lk.agent_name": "ornina-agent"}, "ornina-agent"),
        ({"lk.agent_name": "ornina-agent", "lk.agent.name": "another"}, "ornina-agent"),
        ({"lk.agent.name": "ornina-agent"}, "ornina-agent"),
        ({"lk.agent_name": "ornina-agent", "lk.publish_on_behalf": "agent-1"}, ""),
        ({}, ""),
    ],
    ids=["from the server", "server before agent", "old server", "avatar", "no name"],
)
def test_agent_name_comes_from_the_server_and_excludes_avatars(attributes: dict[str, str], name: str) -> None:
    info = api.ParticipantInfo(identity="a", kind=api.ParticipantInfo.Kind.AGENT, attributes=attributes)
    assert _participant(info).agent_name == name
    caller = api.ParticipantInfo(identity="a", kind=api.ParticipantInfo.Kind.STANDARD, attributes=attributes)
    assert _participant(caller).agent_name == ""
