"""Only the declared agent answers, only in its rooms, and once for repeated requests."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from livekit import api

from devkit.demo.caller import Caller, call, request_call
from tests.e2e import agents
from tests.e2e.bare import bare_worker, wait_registered
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def agent(platform: Platform) -> Iterator[str]:
    with agents.declared(
        platform.product, agents.manifest(platform.targets, "only", scaling=agents.ONE_WORKER)
    ) as name:
        yield name


def test_workers_with_other_or_no_name_get_no_call(platform: Platform, agent: str, tmp_path: Path) -> None:
    unnamed, other = tmp_path / "unnamed", tmp_path / "other"

    async def one_call() -> set[str]:
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.first_word(30)
            await caller.hear(30)
            return caller.agents

    with bare_worker(platform, "", unnamed, registered=False), bare_worker(platform, "other-agent", other):
        wait_registered(unnamed)
        assert len(asyncio.run(one_call())) == 1
        assert unnamed.read_text() == ""
        assert other.read_text() == ""
        # Both workers are registered: an ordinary room gets the unnamed one, and its agent name the other.
        asyncio.run(open_room(platform, "ordinary-room"))
        eventually_blocking(lambda: "ordinary-room" in unnamed.read_text(), "the unnamed worker is alive", 20)
        assert other.read_text() == ""
        asyncio.run(open_room(platform, "other-room", api.RoomAgentDispatch(agent_name="other-agent")))
        eventually_blocking(lambda: "other-room" in other.read_text(), "the worker of another name is alive", 20)
        # A worker stops once its jobs have ended, and they end with their rooms.
        for room in ("ordinary-room", "other-room"):
            eventually_blocking(partial(has_agent, platform, room), f"the agent of {room} has joined")
            asyncio.run(delete_room(platform, room))


async def open_room(platform: Platform, room: str, *dispatches: api.RoomAgentDispatch) -> None:
    async with livekit_api(platform) as livekit:
        await livekit.room.create_room(api.CreateRoomRequest(name=room, agents=dispatches, empty_timeout=30))


async def delete_room(platform: Platform, room: str) -> None:
    async with livekit_api(platform) as livekit:
        await livekit.room.delete_room(api.DeleteRoomRequest(room=room))


async def confirmed(platform: Platform, opened: dict[str, Any]) -> str:
    """Return the call's state after `dispatched`, which the gateway knows from LiveKit."""
    url = f"{platform.gateway}/v1/calls/{opened['callId']}?state=dispatched&waitSeconds=10"
    headers = {"Authorization": f"Bearer {opened['callToken']}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return str((await answer.json())["state"])


def livekit_api(platform: Platform) -> api.LiveKitAPI:
    targets = platform.targets
    return api.LiveKitAPI(targets.livekit_url, targets.livekit_key, targets.livekit_secret)


def test_room_outside_the_pattern_is_declined_and_logged(platform: Platform, agent: str) -> None:
    asyncio.run(open_room(platform, "another-room", api.RoomAgentDispatch(agent_name="only-agent")))
    (pod,) = agents.worker_names(platform.product, agent)

    def declined() -> bool:
        log = agents.log(platform.product, pod)
        return any(line["message"] == "job declined" and line["room"] == "another-room" for line in log)

    eventually_blocking(declined, "the worker logged that it declined the room", 20)
    assert asyncio.run(participants(platform, "another-room")) == []
    asyncio.run(delete_room(platform, "another-room"))


def has_agent(platform: Platform, room: str) -> bool:
    """Whether an agent is connected. An agent whose room closes before tries to reach it, and opens it again."""
    active = api.ParticipantInfo.State.ACTIVE
    return any(one.state == active for one in asyncio.run(participants(platform, room)))


async def participants(platform: Platform, room: str) -> list[api.ParticipantInfo]:
    async with livekit_api(platform) as livekit:
        found = await livekit.room.list_participants(api.ListParticipantsRequest(room=room))
        return list(found.participants)


def test_repeated_request_opens_one_call_with_one_agent(platform: Platform, agent: str) -> None:
    async def same_call_twice() -> None:
        headers = {"Idempotency-Key": "one-and-the-same"}
        requests = [request_call(platform.gateway, agent, "Caller", headers=headers) for _ in range(2)]
        (first, moments), (second, _) = await asyncio.gather(*requests)
        third, _ = await request_call(platform.gateway, agent, "Caller", headers=headers)
        assert first["callId"] == second["callId"] == third["callId"]
        assert first["room"] == second["room"] == third["room"]
        async with Caller("Caller", first["url"], first["token"], moments) as caller:
            await caller.first_word(30)
            await caller.hear(30)
            assert len(caller.agents) == 1
            assert await confirmed(platform, first) == "joined"
        async with livekit_api(platform) as livekit:
            dispatches = await livekit.agent_dispatch.list_dispatch(first["room"])
            assert len(dispatches) == 1

    asyncio.run(same_call_twice())
