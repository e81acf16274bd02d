"""Cost of the gateway: opening calls beside raw CreateRoom on a real LiveKit server, and holding thousands of calls.

The gateway runs in a process of its own without Kubernetes, so that its processor time can be read. Rooms with callers
and agents by the thousand are played at LiveKit's API (`tests.bench.livekit_api`).
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from uuid import uuid4

import aiohttp
import pytest
from aiohttp.test_utils import TestServer, unused_port
from livekit import api

from agentspec.wire import RoomRecord, render
from devkit import benchmarks
from devkit.benchmarks import GatewayHolding, GatewayLatency, GatewayOpening, Pair
from gateway.livekit.server import WAITING_AGENT_NAME
from tests.bench.livekit_api import PlayedLiveKit
from tests.e2e.conftest import Platform
from tests.unit.gateway.fakes import CREDENTIALS, example_agent
from tests.waiting import eventually

JOINED, WAITING = 2000, 500
BUSY = 1000
"""Joined calls, and as many waiting ones."""
MAX_REQUESTS_PER_SECOND = 5.0
MAX_MIB = 200.0
MIN_RATIO = 0.25
LATENCIES = 100
PAUSE_SECONDS = 0.02
PARALLEL = 8
CALLS = 1500
HOLD_SECONDS = 20.0
SETTLE_SECONDS = 10.0
AGENT = example_agent()


@dataclass(frozen=True)
class Server:
    """A LiveKit server, and a key of it."""

    url: str
    key: str
    secret: str


@dataclass(frozen=True)
class RunningGateway:
    """A gateway process."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Return the resident memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def gateway(livekit: Server, log: Path) -> Iterator[RunningGateway]:
    """Run a gateway on a LiveKit server. It may still be starting."""
    port = unused_port()
    arguments = [livekit.url, livekit.key, livekit.secret, str(port)]
    command = [sys.executable, "-m", "tests.bench.gateway_process", *arguments]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield RunningGateway(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()


async def is_up(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/openapi.json") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def create_room(livekit: api.LiveKitAPI) -> None:
    """Create a room as a call has it: with an agent's dispatch."""
    agents = [api.RoomAgentDispatch(agent_name="nobody", metadata="{}")]
    await livekit.room.create_room(api.CreateRoomRequest(name=f"raw-{uuid4()}", agents=agents, empty_timeout=60))


async def open_call(session: aiohttp.ClientSession, url: str) -> None:
    body = {"agent": AGENT.name, "name": "Layla"}
    async with session.post(f"{url}/v1/calls", json=body, headers={"Origin": url}) as response:
        assert response.status == 201, await response.text()
        await response.read()


async def in_parallel(work: Callable[[], Awaitable[None]], times: int) -> float:
    """Do something so often, `PARALLEL` at a time; return how often a second."""
    numbers = iter(range(times))

    async def worker() -> None:
        for _ in numbers:
            await work()

    began = monotonic()
    await asyncio.gather(*(worker() for _ in range(PARALLEL)))
    return times / (monotonic() - began)


def participant(identity: str, agent_name: str = "") -> api.ParticipantInfo:
    kind = api.ParticipantInfo.Kind.AGENT if agent_name else api.ParticipantInfo.Kind.STANDARD
    attributes = {"lk.agent_name": agent_name} if agent_name else {}
    state = api.ParticipantInfo.State.ACTIVE
    return api.ParticipantInfo(identity=identity, kind=kind, state=state, attributes=attributes, joined_at_ms=1)


def add_call(livekit: PlayedLiveKit, number: int, *, joined: bool) -> None:
    """Open the room of a call that an earlier gateway opened, with its caller and perhaps its agent."""
    identity = f"caller-{number}"
    record = RoomRecord(
        call_id=f"{number:024x}",
        agent=AGENT.key,
        identity=identity,
        created_at=1000.0 + number,
        request_hash="h",
        agent_name=AGENT.agent_name,
        call_token_hash="t",
    )
    metadata = json.dumps({"callID": record.call_id, "callerIdentity": identity})
    name = AGENT.agent_name if joined else WAITING_AGENT_NAME
    dispatch = api.AgentDispatch(id=f"AD_{number}", agent_name=name, metadata=metadata)
    agents = [participant(f"agent-{number}", AGENT.agent_name)] if joined else []
    livekit.add(f"ornina-{number}", render(record), dispatch, participant(identity), *agents)


@asynccontextmanager
async def played(joined: int, waiting: int) -> AsyncIterator[tuple[PlayedLiveKit, Server]]:
    """Play a LiveKit server with so many calls."""
    livekit = PlayedLiveKit()
    for number in range(joined + waiting):
        add_call(livekit, number, joined=number < joined)
    async with TestServer(livekit.application()) as server:
        url = str(server.make_url("")).replace("http", "ws").rstrip("/")
        yield livekit, Server(url, CREDENTIALS.api_key, CREDENTIALS.api_secret)


async def added_seconds(session: aiohttp.ClientSession, livekit: api.LiveKitAPI, url: str) -> float:
    """Return how much longer than a raw CreateRoom an open call takes, as medians of requests made in turn."""
    opened: list[float] = []
    raw: list[float] = []
    for _ in range(LATENCIES):
        for seconds, work in ((opened, open_call(session, url)), (raw, create_room(livekit))):
            began = monotonic()
            await work
            seconds.append(monotonic() - began)
        await asyncio.sleep(PAUSE_SECONDS)
    return statistics.median(opened) - statistics.median(raw)


@pytest.mark.timeout(300)
async def test_holding_thousands_of_calls_costs_little(tmp_path: Path) -> None:
    async with played(JOINED, WAITING) as (livekit, server), aiohttp.ClientSession() as session:
        with gateway(server, tmp_path / "gateway.log") as running:
            began = monotonic()
            await eventually(lambda: is_up(session, running.url), "the gateway has adopted the calls", 120)
            adopted = monotonic() - began
            print(f"\n{JOINED + WAITING} calls were adopted in {adopted:.1f} s")
            await asyncio.sleep(SETTLE_SECONDS)
            livekit.requests.clear()
            before, began = running.cpu_seconds(), monotonic()
            await asyncio.sleep(HOLD_SECONDS)
            seconds = monotonic() - began
            share = (running.cpu_seconds() - before) / seconds
            requests = livekit.requests.total() / seconds
            print(f"{100 * share:.1f} % of a core, {requests:.1f} requests a second: {dict(livekit.requests)}")
            memory = running.memory_mib()
            print(f"{memory:.0f} MiB")
    assert requests <= MAX_REQUESTS_PER_SECOND
    assert memory < MAX_MIB
    benchmarks.record(
        GatewayHolding(
            run=benchmarks.this_run(),
            joined=JOINED,
            waiting=WAITING,
            adopted_seconds=round(adopted, 1),
            core_percent=round(100 * share, 1),
            requests_per_second=round(requests, 1),
            memory_mib=round(memory),
            limits={"requests_per_second": MAX_REQUESTS_PER_SECOND, "memory_mib": MAX_MIB},
        )
    )


async def added_ms(calls: int, log: Path) -> float:
    """Return how many milliseconds longer than a room a call takes, beside so many joined and as many waiting calls."""
    async with played(calls, calls) as (_, server), aiohttp.ClientSession() as session:
        with gateway(server, log) as running:
            await eventually(lambda: is_up(session, running.url), "the gateway has adopted the calls", 120)
            livekit = api.LiveKitAPI(server.url, server.key, server.secret, session=session)
            added = 1000 * await added_seconds(session, livekit, running.url)
    print(f"\nwith {calls} joined and {calls} waiting, a call takes {added:.1f} ms more than a room")
    return round(added, 1)


@pytest.mark.timeout(600)
async def test_open_call_is_as_quick_with_many_calls(tmp_path: Path) -> None:
    idle = await added_ms(0, tmp_path / "idle.log")
    busy = await added_ms(BUSY, tmp_path / "busy.log")
    run = benchmarks.this_run()
    benchmarks.record(GatewayLatency(run=run, requests=LATENCIES, idle_ms=idle, busy_ms=busy, busy_calls=BUSY))


@pytest.mark.timeout(300)
async def test_calls_are_opened_at_a_quarter_of_the_rate_of_rooms(platform: Platform, tmp_path: Path) -> None:
    targets = platform.targets
    server = Server(targets.livekit_url, targets.livekit_key, targets.livekit_secret)
    async with aiohttp.ClientSession() as session:
        livekit = api.LiveKitAPI(server.url, server.key, server.secret, session=session)
        with gateway(server, tmp_path / "gateway.log") as running:
            await eventually(lambda: is_up(session, running.url), "the gateway is up", 60)
            raw = await in_parallel(lambda: create_room(livekit), CALLS)
            before = running.cpu_seconds()
            opened = await in_parallel(lambda: open_call(session, running.url), CALLS)
            cost = 1000 * (running.cpu_seconds() - before) / CALLS
            print(f"\nCreateRoom {raw:.0f}/s, POST /v1/calls {opened:.0f}/s, ratio {opened / raw:.2f}")
            print(f"{cost:.2f} ms of the gateway's processor time a call")
    assert opened / raw >= MIN_RATIO
    benchmarks.record(
        GatewayOpening(
            run=benchmarks.this_run(),
            calls=CALLS,
            parallel=PARALLEL,
            per_second=Pair(product=opened, peer=raw).rounded(0),
            min_ratio=MIN_RATIO,
            processor_ms=round(cost, 2),
        )
    )
