"""A crowd of callers, each in a process of its own.

LiveKit's native client ends a process in which many rooms join at once while the processor is busy (livekit 1.1: "timed
out waiting for ReadyForRoomEventRequest").
"""

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

from agentspec.wire import read_room_record
from devkit.demo.caller import Caller, hang_up, request_call

READY_SECONDS = 60.0
"""Until the processes of all callers run."""

_all_ready: Barrier


@dataclass(frozen=True)
class Answered:
    """What one caller noticed. Times are seconds from the request."""

    room: str
    created_at: float
    """When the gateway created the call, in Unix seconds, from the room record."""
    was_waiting: bool
    """Whether the gateway answered that the call waits for a slot."""
    opened: float
    connected: float
    joined: float
    first_word: float
    agents: frozenset[str]
    """Identities of all agents that were in the room until the caller left."""


def call_together(gateway: str, agent: str, callers: int, seconds: float) -> list[Answered]:
    """Let callers call at once. Each hangs up after the first word, for which it waits so many seconds.

    Raises an ExceptionGroup with the error of each caller that failed.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["pytest", __name__])
    with ProcessPoolExecutor(callers, context, _share, (context.Barrier(callers),)) as pool:
        calls = [pool.submit(_call, gateway, agent, f"Caller {number}", seconds) for number in range(callers)]
        wait(calls)
    failures = [failure for call in calls if isinstance(failure := call.exception(), Exception)]
    if failures:
        raise ExceptionGroup(f"{len(failures)} callers failed", failures)
    return [call.result() for call in calls]


def _share(all_ready: Barrier) -> None:
    """Store the barrier in a process of the pool, which gives way to the node: real callers have other computers."""
    global _all_ready
    _all_ready = all_ready
    os.nice(19)


def _call(gateway: str, agent: str, name: str, seconds: float) -> Answered:
    """Make a call when the processes of all callers run."""
    _all_ready.wait(READY_SECONDS)
    return asyncio.run(_one_call(gateway, agent, name, seconds))


async def _one_call(gateway: str, agent: str, name: str, seconds: float) -> Answered:
    answer, moments = await request_call(gateway, agent, name)
    async with Caller(name, answer["url"], answer["token"], moments, microphone=False) as caller:
        record = read_room_record(caller.room.metadata)
        assert record is not None, caller.room.metadata
        await caller.first_word(seconds)
        await hang_up(gateway, answer)
        return Answered(
            room=caller.room.name,
            created_at=record.created_at,
            was_waiting=moments.state == "waiting",
            opened=moments.opened - moments.requested,
            connected=moments.connected - moments.requested,
            joined=moments.joined - moments.requested,
            first_word=moments.first_word - moments.requested,
            agents=frozenset(caller.agents),
        )
