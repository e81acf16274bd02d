"""A telephone caller, as LiveKit's SIP service brings one into a room."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from livekit import api

from devkit.demo.caller import Caller, CallError, Moments, hang_up, request_call
from tests.e2e import agents
from tests.e2e.callers import AVATAR
from tests.e2e.conftest import Platform
from tests.e2e.test_dispatch import livekit_api, open_room
from tests.e2e.test_seats import conversations
from tests.waiting import eventually_blocking, eventually_in_thread
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


async def telephone_call(platform: Platform, agent: str) -> None:
    """Let the telephone ring while another caller has the only slot, until that one hangs up, and answer it then."""
    other, moments = await request_call(platform.gateway, agent, "Talking")
    async with Caller("Talking", other["url"], other["token"], moments) as talking:
        await talking.first_word(30)
        # A SIP dispatch rule makes the room so, without the gateway.
        await open_room(platform, ROOM, api.RoomAgentDispatch(agent_name="phone-agent"))
        async with Caller("Telephone", platform.targets.livekit_url, sip_token(platform), Moments()) as caller:
            await eventually_in_thread(lambda: pending(platform, agent) == 1, "the telephone waits for a slot", 40)
            assert caller.agents == set()
            await hang_up(platform.gateway, other)
            await answer_and_hang_up(platform, caller)


async def answer_and_hang_up(platform: Platform, caller: Caller) -> None:
    """Ring until the agent has joined, answer, listen and hang up."""
    await caller.agent_joined(30)
    with pytest.raises(CallError, match="nothing was heard"):
        await caller.first_word(RINGING_SECONDS)
    await set_status(platform, "active")
    await caller.first_word(20)
    await asyncio.sleep(CALL_SECONDS)
    assert len(caller.agents) == 1
    assert AVATAR not in caller.room.remote_participants
    await set_status(platform, "hangup")
    await asyncio.sleep(1)


def pending(platform: Platform, agent: str) -> int:
    """Return the number of waiting calls in the status."""
    calls: int = platform.product.get("avataragent", agent)["status"]["calls"]["pending"]
    return calls


def one_slot(platform: Platform) -> dict[str, Any]:
    """Return an agent that can take one call, with an avatar."""
    manifest = agents.one_slot(platform.targets, "phone", maxWorkers=1)
    manifest["spec"]["avatar"] = agents.manifest(platform.targets, "phone", avatar=True)["spec"]["avatar"]
    return manifest


def test_telephone_waits_for_a_slot_and_is_greeted_when_it_answers(platform: Platform) -> None:
    product, before = platform.product, conversations(platform)
    with agents.declared(product, one_slot(platform)) as name:
        asyncio.run(telephone_call(platform, name))
        (pod,) = agents.worker_names(product, name)

        def logged(message: str) -> list[dict[str, Any]]:
            lines = agents.log(product, pod)
            return [line for line in lines if (line["message"], line.get("room")) == (message, ROOM)]

        eventually_blocking(lambda: logged("call ended"), "the call has ended", 20)
        (left, *_), (ended,) = logged("telephone hung up"), logged("ending call")
        assert ended["outcome"] == "caller_left"
        waited = datetime.fromisoformat(ended["time"]) - datetime.fromisoformat(left["time"])
        assert waited.total_seconds() < REJOIN_SECONDS / 2, "there is no rejoin window"
        assert logged("no avatar: the caller has no video")
        assert len(conversations(platform)) == len(before) + 1, "only the other caller had an avatar"
