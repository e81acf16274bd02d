"""A limit of avatar seats: further calls continue by voice or end, as declared."""

import asyncio
import json
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from devkit.demo.caller import Caller
from devkit.demo.conversation import check_video
from tests.e2e import agents
from tests.e2e.browser import failure_on_page
from tests.e2e.callers import AVATAR, answered, becomes, greeted
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking, eventually_in_thread

pytestmark = pytest.mark.timeout(400)


def one_seat(platform: Platform, on_failure: str) -> dict[str, Any]:
    agent = agents.manifest(
        platform.targets,
        "seats",
        avatar=True,
        worker={"callsPerWorker": 2, "maxCallMinutes": 5},
        conversation={"idlePromptSeconds": 0},
    )
    agent["spec"]["avatar"] |= {"maxSessions": 1, "onFailure": on_failure}
    agent["spec"]["scaling"] = {"minWorkers": 1, "maxWorkers": 2, "freeSlots": 0}
    return agent


def has_avatar(caller: Caller) -> bool:
    return any(participant.identity == AVATAR for participant in caller.room.remote_participants.values())


def conversations(platform: Platform) -> dict[str, str]:
    """Return the status of every conversation at Tavus by id; an active one is billed and holds a seat."""
    address = f"{platform.targets.tavus_url.removesuffix('/v2')}/_simulator"
    with urllib.request.urlopen(address, timeout=30) as answer:
        known = json.load(answer)["conversations"]
    return {conversation["conversation_id"]: conversation["status"] for conversation in known}


def counted(platform: Platform, agent: str) -> int:
    """Return the number of calls with an avatar in the status."""
    calls: int = platform.product.get("avataragent", agent)["status"]["calls"]["withAvatar"]
    return calls


def test_second_call_without_a_seat_continues_by_voice_or_ends(platform: Platform, tmp_path: Path) -> None:
    product = platform.product
    before = conversations(platform)

    def begun() -> list[str]:
        return [status for name, status in conversations(platform).items() if name not in before]

    async def calls_for_one_seat(name: str) -> None:
        async with AsyncExitStack() as seated, AsyncExitStack() as unseated:
            pair = await asyncio.gather(
                greeted(seated, platform, name, "First", hangs_up=True),
                greeted(unseated, platform, name, "Second", hangs_up=True),
            )
            await eventually_in_thread(lambda: any(has_avatar(caller) for caller in pair), "one call has an avatar", 30)
            first, second = sorted(pair, key=has_avatar, reverse=True)
            check_video(await first.see(6, 30))
            await eventually_in_thread(lambda: counted(platform, name) == 1, "one call with avatar is counted", 30)
            taken = ("False", "AvatarSeatsTaken")
            await becomes(product, name, "AvatarAvailable", *taken)
            assert "continues with voice only" in agents.condition(product, name, "AvatarAvailable")[2]
            assert agents.condition(product, name, "Ready")[0] == "True", "the agent still takes calls"
            await answered(second)
            assert not has_avatar(second)
            assert second.video_frames == []
            assert begun() == ["active"], "only the avatar that is shown is billed"

            # The seat is taken by a call on an old worker now: a rollout does not lose the count.
            await asyncio.to_thread(product.apply, [one_seat(platform, "EndCall")])
            rolling_out = (
                "True",
                "RollingOut",
                "1 of 1 workers updated; 1 old worker is finishing 2 calls.",
            )
            await becomes(product, name, "Progressing", *rolling_out, seconds=60)
            failure = await asyncio.to_thread(failure_on_page, platform, name, tmp_path / "profile")
            busy = "No avatar is available at the moment. Please try again in a few minutes."
            assert failure == ("NoAvatarSeat", busy)
            assert begun() == ["active"]
            assert first.room.isconnected() and second.room.isconnected()

    with agents.declared(product, one_seat(platform, "VoiceOnly")) as name:
        asyncio.run(calls_for_one_seat(name))
        free = ("True", "AvatarSeatsFree")
        eventually_blocking(
            lambda: agents.condition(product, name, "AvatarAvailable")[:2] == free, "the seat is free", 60
        )
        eventually_blocking(lambda: begun() == ["ended"], "the conversation is ended", 30)
