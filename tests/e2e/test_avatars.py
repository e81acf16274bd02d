"""A frozen avatar is noticed, and no conversation at Tavus outlives its call, whatever ended it."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import pytest
from livekit import api

from devkit.demo.caller import Caller, Moments, call
from devkit.demo.product import AGENTS_NAMESPACE
from devkit.instance import Layout
from tests.e2e import agents
from tests.e2e.callers import answered
from tests.e2e.conftest import NAME, Platform
from tests.e2e.test_dispatch import open_room
from tests.e2e.test_seats import conversations, has_avatar, one_seat
from tests.waiting import eventually_in_thread

pytestmark = pytest.mark.timeout(400)

SETTLE_SECONDS = 3.0
"""How long a second avatar would need at most to show up after the first one."""

_KILL_CALLS = """
import os, signal, glob
parents = {}
for path in glob.glob("/proc/[0-9]*/stat"):
    try:
        text = open(path).read()
    except OSError:
        continue
    parents[int(path.split("/")[2])] = int(text.rpartition(")")[2].split()[1])
def depth(pid):
    return 0 if pid not in parents else 1 + depth(parents[pid])
own = {os.getpid()}
deepest = max(depth(pid) for pid in parents if pid not in own)
calls = [pid for pid in parents if pid not in own and depth(pid) == deepest]
print(calls)
for pid in calls:
    os.kill(pid, signal.SIGKILL)
"""
"""Kills the call processes of a worker, with and without a call: the deepest processes of its tree."""


@contextmanager
def frozen_tavus() -> Iterator[None]:
    """Stop the process of the simulated Tavus, with all its avatars, until the block ends."""
    process = Layout(NAME).processes.get("simulated-tavus")
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


async def with_avatar(caller: Caller) -> None:
    await eventually_in_thread(lambda: has_avatar(caller), "the avatar is in the room", 30)
    await caller.see(1, 30)


@pytest.mark.soak
@pytest.mark.allows_errors(
    "could not end avatar conversation, the worker retries", "failed to perform clear buffer rpc"
)
def test_frozen_avatar_is_replaced_by_the_voice(platform: Platform) -> None:
    before = conversations(platform)

    async def one_call(agent: str) -> None:
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.first_word(30)
            await caller.hear(30)  # the agent hears nothing while it greets
            await with_avatar(caller)
            await answered(caller)
            await asyncio.sleep(2)
            with frozen_tavus():
                frozen = time.monotonic()
                await eventually_in_thread(lambda: not has_avatar(caller), "the worker removed the avatar", 20)
                noticed = time.monotonic()
                await answered(caller)
            print(f"removed {noticed - frozen:.1f} s after the freeze")

    with agents.declared(platform.product, agents.manifest(platform.targets, "frozen", avatar=True)) as name:
        asyncio.run(one_call(name))
        asyncio.run(all_ended(platform, before))


async def all_ended(platform: Platform, before: dict[str, str]) -> None:
    def ended() -> bool:
        return {status for name, status in conversations(platform).items() if name not in before} == {"ended"}

    await eventually_in_thread(ended, "every conversation is ended", 40)


@pytest.mark.allows_errors("call process failed, its call is lost", "process exited with non-zero exit code -9")
def test_conversation_of_a_killed_call_process_is_ended(platform: Platform) -> None:
    product, before = platform.product, conversations(platform)

    def begun() -> list[str]:
        return [status for name, status in conversations(platform).items() if name not in before]

    async def one_call(agent: str) -> None:
        async with await call(platform.gateway, agent, "Caller") as caller:
            await caller.first_word(30)
            await with_avatar(caller)
            (pod,) = agents.worker_names(product, agent)
            arguments = ["-n", AGENTS_NAMESPACE, "exec", pod, "--", "python", "-c", _KILL_CALLS]
            await asyncio.to_thread(product.kubectl_run, *arguments)
            await eventually_in_thread(lambda: "ended" in begun(), "the lost call's conversation is ended", 15)

    with agents.declared(product, agents.manifest(platform.targets, "killed", avatar=True)) as name:
        asyncio.run(one_call(name))
        asyncio.run(all_ended(platform, before))


def test_limit_of_avatars_holds_for_calls_without_a_gateway(platform: Platform) -> None:
    before = conversations(platform)

    def active() -> int:
        return [status for name, status in conversations(platform).items() if name not in before].count("active")

    def token(room: str) -> str:
        made = api.AccessToken(platform.targets.livekit_key, platform.targets.livekit_secret)
        return made.with_identity("caller").with_grants(api.VideoGrants(room_join=True, room=room)).to_jwt()

    async def dispatched(stack: AsyncExitStack, room: str) -> Caller:
        await open_room(platform, room, api.RoomAgentDispatch(agent_name="seats-agent"))
        caller = Caller(room, platform.targets.livekit_url, token(room), Moments())
        await stack.enter_async_context(caller)
        await caller.first_word(30)
        return caller

    async def two_calls() -> None:
        async with AsyncExitStack() as stack:
            pair = await asyncio.gather(dispatched(stack, "seats-1"), dispatched(stack, "seats-2"))
            await eventually_in_thread(lambda: any(has_avatar(caller) for caller in pair), "one call has an avatar", 30)
            await asyncio.sleep(SETTLE_SECONDS)
            assert [has_avatar(caller) for caller in pair].count(True) == active() == 1

    with agents.declared(platform.product, one_seat(platform, "VoiceOnly")):
        asyncio.run(two_calls())
        asyncio.run(all_ended(platform, before))
