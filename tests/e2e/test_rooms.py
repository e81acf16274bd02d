"""A back end creates its own room with LiveKit's SDK, and asks the gateway for the agent."""

import asyncio
from typing import Any

import aiohttp
import pytest
from livekit import api

from devkit.demo.caller import PAGE_HEADERS, Caller, Moments
from tests.e2e import agents
from tests.e2e.callers import answered, says
from tests.e2e.conftest import Platform

pytestmark = pytest.mark.timeout(400)

ROOM = "rooms-of-the-back-end"
METADATA = {"user_id": "user-17", "language": "ar", "capabilities": ["voice"]}


async def dispatch(platform: Platform, room: str) -> tuple[int, dict[str, Any]]:
    """Ask the gateway for the agent in a room; returns status and answer."""
    body = {"room": room, "agent": "rooms", "metadata": METADATA}
    async with (
        aiohttp.ClientSession(headers=PAGE_HEADERS) as session,
        session.post(f"{platform.gateway}/api/dispatch-agent", json=body) as answer,
    ):
        found: dict[str, Any] = await answer.json()
        return answer.status, found


def caller(platform: Platform) -> Caller:
    """Return a caller with a token that the back end created."""
    targets = platform.targets
    token = api.AccessToken(targets.livekit_key, targets.livekit_secret).with_identity("user-17")
    grants = api.VideoGrants(room_join=True, room=ROOM)
    return Caller("Layla", targets.livekit_url, token.with_grants(grants).to_jwt(), Moments())


def test_agent_joins_the_room_of_a_back_end_and_answers(platform: Platform) -> None:
    agent = agents.manifest(platform.targets, "rooms")
    targets = platform.targets

    async def one_call() -> None:
        status, answer = await dispatch(platform, ROOM)
        assert (status, answer["success"], answer["reason"]) == (404, False, "RoomNotFound")
        async with api.LiveKitAPI(targets.livekit_url, targets.livekit_key, targets.livekit_secret) as livekit:
            await livekit.room.create_room(api.CreateRoomRequest(name=ROOM, metadata="ours", empty_timeout=60))
            async with caller(platform) as talking:
                status, answer = await dispatch(platform, ROOM)
                assert (status, answer["success"]) == (200, True), answer
                assert (await dispatch(platform, ROOM))[1] == answer, "a repeated request finds the agent"
                await talking.first_word(30)
                await talking.hear(30)
                await says(talking, agent["spec"]["persona"]["greeting"])
                await answered(talking)
                assert len(talking.agents) == 1
                named = [one.id for one in await livekit.agent_dispatch.list_dispatch(ROOM) if one.agent_name]
                assert named == [answer["dispatchId"]]
            (room,) = (await livekit.room.list_rooms(api.ListRoomsRequest(names=[ROOM]))).rooms
            assert room.metadata == "ours"
            await livekit.room.delete_room(api.DeleteRoomRequest(room=ROOM))

    with agents.declared(platform.product, agent):
        asyncio.run(one_call())
