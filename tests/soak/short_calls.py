"""Many short calls of several agents with one slot each: one caller talks to each agent, and others wait in line."""

import asyncio
import time
import uuid
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from livekit import rtc

from devkit import rooms
from devkit.demo.caller import Caller, CallError, Moments
from tests.soak.repeats import Requests

Stage = Literal["opening", "waiting", "joined", "ending"]
STAGES: Final[tuple[Stage, ...]] = ("opening", "waiting", "joined", "ending")

LINE = 3
"""Callers of one agent at a time."""
TALK_SECONDS = 2.0
JOIN_SECONDS = 90.0
"""Longest time in line."""
CONNECT_SECONDS = 15.0
HEARING_SHARE = 20
"""One caller of so many has a microphone, and hears the first word."""
FIRST_WORD_SECONDS = 20.0


@dataclass
class ShortCall:
    """One call, with its times in monotonic seconds; 0.0: not yet."""

    agent: str
    requested: float
    opened: float = 0.0
    connected: float = 0.0
    joined: float = 0.0
    heard: bool = False
    ended: bool = False
    room: str = ""
    attempts: int = 0
    failure: str = ""
    agents: set[str] = field(default_factory=set)
    """Identities of all agents that were ever in the room."""

    @property
    def accept_seconds(self) -> float:
        return self.opened - self.requested


class Listener:
    """A caller without a microphone who subscribes to nothing: a connected participant, at next to no cost."""

    def __init__(self, call: ShortCall) -> None:
        self._call = call
        self._room = rtc.Room()
        self.joined = asyncio.Event()

    async def __aenter__(self) -> "Listener":
        self._room.on("participant_connected", self._on_participant)
        return self

    async def connect(self, url: str, token: str) -> None:
        """Join the room."""
        await rooms.connect(self._room, url, token, CONNECT_SECONDS, auto_subscribe=False)
        for participant in self._room.remote_participants.values():
            self._on_participant(participant)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self._room.disconnect(), timeout=10)

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            self._call.agents.add(participant.identity)
            self.joined.set()


class Stream:
    """Callers who keep the line of each agent filled, until enough calls are made and `enough` is set."""

    def __init__(self, requests: Requests, names: list[str], least: int) -> None:
        """``least``: calls to make in all."""
        self.calls: list[ShortCall] = []
        self.enough = asyncio.Event()
        """More calls than the least number are not needed."""
        self._requests = requests
        self._names = names
        self._least = least
        self._stages: dict[tuple[str, Stage], asyncio.Event] = defaultdict(asyncio.Event)

    async def run(self) -> None:
        """Make calls."""
        async with asyncio.TaskGroup() as group:
            for name in self._names:
                for _ in range(LINE):
                    group.create_task(self._callers(name))

    async def reaches(self, agent: str, stage: Stage) -> None:
        """Wait until a call of an agent comes to a stage."""
        event = self._stages[agent, stage]
        event.clear()
        await event.wait()

    async def call(self, agent: str) -> ShortCall:
        """Make one call, and note how it failed if it did."""
        number, call = len(self.calls), ShortCall(agent, time.monotonic())
        self.calls.append(call)
        try:
            await self._talk(call, await self._open(call, number), hears=number % HEARING_SHARE == 0)
        except (AssertionError, CallError, rtc.ConnectError, TimeoutError) as error:
            call.failure = str(error) or repr(error)
        return call

    async def _open(self, call: ShortCall, number: int) -> dict[str, Any]:
        """Request a call; return the gateway's answer."""
        self._stages[call.agent, "opening"].set()
        body = {"agent": call.agent, "name": f"Caller {number}", "language": "en"}
        answer = await self._requests.send(
            "POST", "/v1/calls", json=body, headers={"Idempotency-Key": str(uuid.uuid4())}
        )
        call.opened, call.attempts = time.monotonic(), answer.attempts
        assert answer.status in (200, 201), f"the call was refused: {answer.status} {answer.body}"
        call.room = answer.body["room"]
        return answer.body

    async def _talk(self, call: ShortCall, opened: dict[str, Any], *, hears: bool) -> None:
        """Join the room of an opened call, wait for the agent, and hang up."""
        async with AsyncExitStack() as stack:
            call.joined = await (self._hear if hears else self._wait)(stack, call, opened)
            self._stages[call.agent, "joined"].set()
            await asyncio.sleep(TALK_SECONDS)
            self._stages[call.agent, "ending"].set()
            headers = {"Authorization": f"Bearer {opened['callToken']}"}
            answer = await self._requests.send("DELETE", f"/v1/calls/{opened['callId']}", headers=headers)
            # A repeated request may reach another gateway, which finds no room any more.
            assert answer.status == 200 or (answer.status == 404 and answer.attempts > 1), answer
            call.ended = True

    async def _callers(self, agent: str) -> None:
        while len(self.calls) < self._least or not self.enough.is_set():
            await self.call(agent)

    async def _wait(self, stack: AsyncExitStack, call: ShortCall, opened: dict[str, Any]) -> float:
        """Join without a microphone; return when the agent joined."""
        listener = await stack.enter_async_context(Listener(call))
        await listener.connect(opened["url"], opened["token"])
        self._arrived(call)
        async with asyncio.timeout(JOIN_SECONDS):
            await listener.joined.wait()
        return time.monotonic()

    async def _hear(self, stack: AsyncExitStack, call: ShortCall, opened: dict[str, Any]) -> float:
        """Join with a microphone, and hear the first word; return when the agent joined."""
        caller = Caller("Caller", opened["url"], opened["token"], Moments(), agents=call.agents)
        await stack.enter_async_context(caller)
        self._arrived(call)
        await caller.agent_joined(JOIN_SECONDS)
        await caller.first_word(FIRST_WORD_SECONDS)
        call.heard = True
        return caller.moments.joined

    def _arrived(self, call: ShortCall) -> None:
        call.connected = time.monotonic()
        if not call.agents:
            self._stages[call.agent, "waiting"].set()


def overtaken(calls: list[ShortCall]) -> list[tuple[ShortCall, ShortCall]]:
    """Return the pairs of calls of one agent of which the second came when the first waited, and was joined earlier."""
    return [
        (first, second)
        for first in calls
        for second in calls
        if first.agent == second.agent
        and 0 < first.connected < second.requested
        and 0 < second.joined < (first.joined or float("inf"))
    ]
