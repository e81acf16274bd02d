"""A telephone caller, as LiveKit's SIP service brings one into a room."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from livekit import api

from devkit.demo.caller import Caller, CallError, Moments
from tests.e2e import agents
from tests.e2e.callers import AVATAR
from tests.e2e.conftest import Platform
from tests.e2e.test_dispatch import livekit_api, open_room
from tests.e2e.test_seats import conversations
from tests.waiting import eventually_blocking
from worker.call.budget import REJOIN_SECONDS

pytestmark = pytest.mark.timeout(300)

ROOM, IDENTITY = "phone-1", "sip_49301234"
RINGING_SECONDS = 4.0
CALL_SECONDS = 4.0


def sip_token(platform: Platform) -> str:
    """Return the token of a participant whose telephone rings."""
    grants = api.VideoGrants(room_join=True, room=ROOM)
    attributes = {"sip.callStatus": "ringing", "sip.phoneNumber": "+4930123456", "sip.trunkID": "ST_1"}
    token = api.AccessToken(platform.targets.livekit_key, platform.targets.livekit_secret)
    return token.with_identity(IDENTITY).with_kind("sip").with_attributes(attributes).with_grants(grants).to_jwt()


async def set_status(platform: Platform, status: str) -> None:
    request = api.UpdateParticipantRequest(room=ROOM, identity=IDENTITY, attributes={"sip.callStatus": status})
    async with livekit_api(platform) as livekit:
        await livekit.room.update_participant(request)


async def telephone_call(platform: Platform) -> None:
    """Ring, answer, listen and hang up."""
    await open_room(platform, ROOM, api.RoomAgentDispatch(agent_name="phone-agent"))
    async with Caller("Telephone", platform.targets.livekit_url, sip_token(platform), Moments()) as caller:
        await caller.agent_joined(30)
        with pytest.raises(CallError, match="nothing was heard"):
            await caller.first_word(RINGING_SECONDS)
        await set_status(platform, "active")
        await caller.first_word(5)
        await asyncio.sleep(CALL_SECONDS)
        assert AVATAR not in caller.room.remote_participants
        await set_status(platform, "hangup")
        await asyncio.sleep(1)


def test_telephone_is_greeted_when_it_answers_and_ends_at_once(platform: Platform) -> None:
    product, before = platform.product, conversations(platform)
    with agents.declared(product, agents.manifest(platform.targets, "phone", avatar=True)) as name:
        asyncio.run(telephone_call(platform))
        (pod,) = agents.worker_names(product, name)

        def logged(message: str) -> list[dict[str, Any]]:
            return [line for line in agents.log(product, pod) if line["message"] == message]

        eventually_blocking(lambda: logged("call ended"), "the call has ended", 20)
        (hang_up, *_), (ended,) = logged("telephone hung up"), logged("ending call")
        assert ended["outcome"] == "caller_left"
        waited = datetime.fromisoformat(ended["time"]) - datetime.fromisoformat(hang_up["time"])
        assert waited.total_seconds() < REJOIN_SECONDS / 2, "there is no rejoin window"
        assert logged("no avatar: the caller has no video")
        assert conversations(platform) == before, "no avatar was requested"
