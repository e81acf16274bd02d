"""Gateway replicas are killed, frozen, cut off and deleted during 200 calls: no call is lost, doubled or overtaken.

Real: the node, three gateways, the controller, LiveKit, and the product's workers with media. Each agent has one slot,
so one call of it is joined and others wait in line. One caller in twenty is a whole client that hears the agent; the
others are connected participants without a microphone.

The requests are those of a client that repeats a request without an answer (`tests.soak.repeats`).
"""

import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.soak.gateway_faults import FAULT_SECONDS, KINDS, Replicas
from tests.soak.repeats import Requests
from tests.soak.short_calls import STAGES, ShortCall, Stage, Stream, overtaken
from tests.soak.test_observed_run import WORKER_RESOURCES

CALLS = 200
REPLICAS = 3
AGENTS = 4
ACCEPT_SECONDS = 2.0
"""A new call is accepted within this time after a fault."""
BUSY_ACCEPT_SECONDS = 4.0
"""The same for a single one on a busy machine: it runs all of the cluster, and takes up to a second for a request."""
STAGE_SECONDS = 60.0
"""Longest wait for a call of the victim's agent to come to a stage."""
SETTINGS = (f"gateway.replicas={REPLICAS}", "gateway.publicCallsPerMinute=100000")
"""All callers have one address."""

pytestmark = pytest.mark.timeout(900)


@dataclass
class Fault:
    """One fault of a replica, at one stage of a call of an agent that it owns."""

    kind: str
    stage: Stage
    began: float
    first: ShortCall
    """The first call to the victim's agent after the fault."""
    settled: float = 0.0

    @property
    def accept_seconds(self) -> float:
        """Seconds from the fault until a new call to the victim's agent was accepted."""
        return self.first.opened - self.began


@pytest.fixture
def several(platform: Platform) -> Iterator[list[str]]:
    """Three gateways, and agents with one slot each."""
    product = platform.product
    product.install(*SETTINGS)
    with ExitStack() as stack:
        names = [f"line-{number}" for number in range(AGENTS)]
        for name in names:
            agent = agents.one_slot(platform.targets, name, maxWorkers=1)
            agent["spec"]["worker"] |= {"resources": WORKER_RESOURCES}
            stack.enter_context(agents.declared(product, agent))
        yield names
    product.install()


async def matrix(platform: Platform, stream: Stream, names: list[str]) -> list[Fault]:
    """Cause each kind of fault at each stage of a call, of the gateway that owns the call's agent."""
    replicas, found = Replicas(platform, REPLICAS), []
    plan = [(kind, stage) for stage in STAGES for kind in KINDS]
    for number, (kind, stage) in enumerate(plan):
        agent = names[(number + number // len(KINDS)) % len(names)]
        victim = await replicas.owner(agent)
        async with asyncio.timeout(STAGE_SECONDS):
            await stream.reaches(agent, stage)
        async with replicas.fault(kind, victim):
            began = time.monotonic()
            calling = asyncio.create_task(stream.call(agent))
            await asyncio.sleep(FAULT_SECONDS)
        fault = Fault(kind, stage, began, await calling)
        await replicas.settled()
        fault.settled = time.monotonic()
        print(
            f"{time.strftime('%H:%M:%S')} {kind} at {stage}, {victim['metadata']['name']}: a call to {agent} was "
            f"accepted after {fault.accept_seconds:.2f} s, at attempt {fault.first.attempts}, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        found.append(fault)
    return found


def accepted_rooms(platform: Platform, names: list[str]) -> Counter[str]:
    """Return how often workers accepted a job in each room."""
    lines = [line for name in names for line in agents.logs(platform.product, name)]
    return Counter(line["room"] for line in lines if line["message"] == "room accepted")


def show(faults: list[Fault], calls: list[ShortCall], accepted: Counter[str]) -> None:
    """Print the figures of each kind of fault."""
    for kind in KINDS:
        injured = [fault for fault in faults if fault.kind == kind]
        first = [fault.accept_seconds for fault in injured]
        in_time = sum(seconds <= ACCEPT_SECONDS for seconds in first)
        near = [call for fault in injured for call in calls if fault.began <= call.opened <= fault.settled]
        print(
            f"{kind}: {in_time} of {len(first)} calls accepted within {ACCEPT_SECONDS:.0f} s of the fault, "
            f"median {statistics.median(first):.2f} s, longest {max(first):.2f} s; until all is well, "
            f"{_figures(near)}, {sum(accepted[call.room] > 1 or len(call.agents) > 1 for call in near)} doubled"
        )
    for call in calls:
        if call.failure:
            print(f"failed: {call.agent} requested at {call.requested - calls[0].requested:.1f} s: {call.failure}")
    for before, behind in overtaken(calls):
        print(f"overtaken: {before} by {behind}")
    heard = sum(call.heard for call in calls)
    print(f"in all, {_figures(calls)}, {heard} heard by a caller, {len(overtaken(calls))} overtaken")


def _figures(calls: list[ShortCall]) -> str:
    seconds = [call.accept_seconds for call in calls if call.opened]
    joined, failed = sum(call.joined > 0 for call in calls), sum(bool(call.failure) for call in calls)
    return (
        f"{len(calls)} calls: accepted in median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s, "
        f"{joined} joined, {failed} failed"
    )


def test_no_call_is_lost_doubled_or_overtaken_by_faults_of_gateways(platform: Platform, several: list[str]) -> None:
    stream = Stream(Requests(platform.gateway), several, CALLS)

    async def scene() -> list[Fault]:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(stream.run())
            try:
                return await matrix(platform, stream, several)
            finally:
                stream.enough.set()
                await running

    faults = asyncio.run(scene())
    accepted = accepted_rooms(platform, several)
    show(faults, stream.calls, accepted)
    assert len(stream.calls) >= CALLS
    assert [call for call in stream.calls if call.failure or not call.ended] == [], "each caller talked and hung up"
    assert {call.room for call in stream.calls if len(call.agents) != 1} == set(), "each caller met one agent"
    assert len({call.room for call in stream.calls}) == len(stream.calls), "each request has a call of its own"
    assert accepted == Counter(call.room for call in stream.calls), "workers accepted one job for each call"
    assert overtaken(stream.calls) == [], "callers in line keep their place"
    for kind in KINDS:
        seconds = [fault.accept_seconds for fault in faults if fault.kind == kind]
        assert statistics.median(seconds) <= ACCEPT_SECONDS, f"new calls while a gateway is {kind}"
        assert max(seconds) <= BUSY_ACCEPT_SECONDS, f"new calls while a gateway is {kind}"
