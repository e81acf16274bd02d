"""Several gateways: any of them may stop at any moment, and no call is lost, doubled or overtaken."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from controller.fleet.gateways import Gateways
from gateway.calls.call import Call, CallState
from gateway.errors import RequestError
from tests.unit.gateway.fakes import FakeLiveKit, example_agent
from tests.unit.gateway.replicas import Replica, now
from tests.unit.gateway.scenes import CLIENT, REQUEST, becomes_true

pytestmark = pytest.mark.usefixtures("virtual_clock")

AGENT = example_agent()
SETTLED_SECONDS = 6.0
"""All replicas know each other, and act."""
WATCH_SECONDS = 0.01


class Cluster:
    """Replicas, a LiveKit server whose workers have one slot, and callers."""

    def __init__(self) -> None:
        self.livekit, self.controller = FakeLiveKit(slots=1), Gateways()
        self.replicas = [Replica(f"g{number}", self.controller, self.livekit) for number in range(3)]
        self.meet()
        self.joined: list[str] = []
        """Rooms in the order in which their agents joined."""
        self._watching = asyncio.create_task(self._watch())

    def meet(self) -> None:
        """Let all replicas reach each other."""
        for one in self.replicas:
            one.meet(self.replicas)

    def owner(self) -> Replica | None:
        """The running replica that acts for the agent. There are never two."""
        acting = [one for one in self.replicas if one.is_running and one.members.acts_for(AGENT.key)]
        assert len(acting) <= 1, f"{[one.name for one in acting]} act at once"
        return acting[0] if acting else None

    def reported_line(self) -> float:
        """The waiting calls that the metrics of all running replicas report together."""
        labels = {"agent_namespace": AGENT.namespace, "agent": AGENT.name, "state": "waiting"}
        registries = [one.gateway.metrics.registry for one in self.replicas if one.is_running]
        return sum(registry.get_sample_value("avatar_agent_gateway_calls", labels) or 0 for registry in registries)

    async def wait_for_owner(self) -> Replica:
        await becomes_true(self.owner)
        owner = self.owner()
        assert owner is not None
        return owner

    async def open_call(self, key: str) -> Call:
        """Open a call as a forwarding gateway does, which sends the request again until an owner answers."""
        while True:
            owner = await self.wait_for_owner()
            opening = asyncio.create_task(owner.gateway.opener.open(AGENT, REQUEST, CLIENT, key))
            while not opening.done() and self.owner() is owner:  # noqa: ASYNC110 - the owner may stop silently
                await asyncio.sleep(WATCH_SECONDS)
            if not opening.done():
                opening.cancel()
            (opened,) = await asyncio.gather(opening, return_exceptions=True)
            if not isinstance(opened, BaseException):
                break
            assert isinstance(opened, RequestError | asyncio.CancelledError)
        call = opened.call
        if not any(one.identity == call.identity for one in self.livekit.rooms_by_name[call.room].participants):
            self.livekit.connect_caller(call.room, call.identity)
        return call

    async def hang_up(self, call: Call) -> None:
        """Hang up at the owner, as soon as it follows the call."""

        def followed() -> bool:
            owner = self.owner()
            return owner is not None and owner.ledger.get(call.id) is not None

        await becomes_true(followed)
        owner = self.owner()
        assert owner is not None
        await owner.gateway.dispatcher.hang_up(call)

    async def _watch(self) -> None:
        while True:
            self.owner()
            for name in self.livekit.rooms_by_name:
                agents = self.livekit.agents_in(name)
                assert len(agents) <= 1, f"{name} has {agents}"
                if agents and name not in self.joined:
                    self.joined.append(name)
            await asyncio.sleep(WATCH_SECONDS)

    async def close(self) -> None:
        if self._watching.done():
            self._watching.result()  # raises what it has found
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        for one in self.replicas:
            one.resume()
            if one.is_alive:
                await one.kill()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    created = Cluster()
    await asyncio.sleep(SETTLED_SECONDS)
    yield created
    await created.close()


async def test_one_replica_acts_for_an_agent_soon_after_the_start(cluster: Cluster) -> None:
    assert cluster.owner() is not None
    assert {len(one.members.known) for one in cluster.replicas} == {3}


MOMENTS = [round(0.3 * number + 0.007 * number, 3) for number in range(16)]


@pytest.mark.parametrize("seconds", MOMENTS)
@pytest.mark.parametrize("how", ["kill", "freeze", "cut_off", "leave"])
async def test_owner_stops_and_no_call_is_lost_doubled_or_overtaken(cluster: Cluster, how: str, seconds: float) -> None:
    victim = await cluster.wait_for_owner()
    calls: list[Call] = []

    async def callers() -> None:
        for number in range(6):
            calls.append(await cluster.open_call(f"one-and-the-same-{number}"))
            await asyncio.sleep(0.4)

    async def hang_up_each() -> None:
        for number in range(6):
            await becomes_true(lambda number=number: len(cluster.joined) > number)  # type: ignore[misc]
            await asyncio.sleep(1)
            room = cluster.joined[number]
            await becomes_true(lambda room=room: room in [call.room for call in calls])  # type: ignore[misc]
            await cluster.hang_up(next(call for call in calls if call.room == room))

    async with asyncio.TaskGroup() as group:
        group.create_task(callers())
        group.create_task(hang_up_each())
        await asyncio.sleep(seconds)
        await getattr(victim, how)()
        stopped_at = now()
        await becomes_true(lambda: cluster.owner() not in (None, victim))
        assert now() - stopped_at < 2.1, "another replica takes over"
    victim.resume()
    await asyncio.sleep(5)
    assert cluster.joined == [call.room for call in calls], "every caller got an agent, in the order of the line"
    accepted = [room for room, name in cluster.livekit.launches if name == "ornina-agent"]
    assert len(accepted) == len(set(accepted)) == 6, "each call was dispatched once"
    assert not cluster.livekit.rooms_by_name, "each call ended"


@pytest.mark.parametrize("how", ["kill", "freeze", "cut_off", "leave"])
async def test_two_hundred_calls_have_a_new_owner_within_seconds(cluster: Cluster, how: str) -> None:
    cluster.livekit.slots = 100
    victim = await cluster.wait_for_owner()
    calls = [await cluster.open_call(f"one-and-the-same-{number:03}") for number in range(200)]
    await becomes_true(lambda: len(cluster.joined) == 100)
    line = [call.id for call in calls if call.room not in cluster.joined]
    await getattr(victim, how)()
    stopped_at = now()
    await becomes_true(lambda: cluster.owner() not in (None, victim))
    owner = await cluster.wait_for_owner()
    await becomes_true(lambda: all(owner.ledger.get(call.id) for call in calls))
    assert now() - stopped_at < 5
    assert [call.id for call in owner.ledger.waiting(AGENT.key)] == line
    assert cluster.reported_line() == 100, "all gateways together report each waiting call once"
    cluster.livekit.slots = 200
    await becomes_true(lambda: len(cluster.joined) == 200)
    accepted = [room for room, name in cluster.livekit.launches if name == "ornina-agent"]
    assert sorted(accepted) == sorted(call.room for call in calls), "each call was dispatched once"


@pytest.mark.parametrize("seconds", MOMENTS[::3])
@pytest.mark.parametrize("how", ["kill", "freeze", "cut_off", "leave"])
async def test_calls_side_by_side_are_neither_lost_nor_doubled(cluster: Cluster, how: str, seconds: float) -> None:
    cluster.livekit.slots = 6
    victim = await cluster.wait_for_owner()

    async def caller(number: int) -> Call:
        await asyncio.sleep(0.4 * number)
        return await cluster.open_call(f"one-and-the-same-{number}")

    async with asyncio.TaskGroup() as group:
        opening = [group.create_task(caller(number)) for number in range(6)]
        await asyncio.sleep(seconds)
        await getattr(victim, how)()
    calls = [task.result() for task in opening]
    await becomes_true(lambda: len(cluster.joined) == 6)
    victim.resume()
    await asyncio.sleep(10)
    accepted = [room for room, name in cluster.livekit.launches if name == "ornina-agent"]
    assert sorted(accepted) == sorted(call.room for call in calls)
    assert all(len(cluster.livekit.agents_in(call.room)) == 1 for call in calls)


async def test_frozen_replica_resumes_and_changes_nothing(cluster: Cluster) -> None:
    victim = await cluster.wait_for_owner()
    joined, waiting = [await cluster.open_call(f"one-and-the-same-{number}") for number in range(2)]
    await becomes_true(lambda: cluster.joined == [joined.room])
    await victim.freeze()
    await becomes_true(lambda: cluster.owner() not in (None, victim))
    successor = await cluster.wait_for_owner()
    await becomes_true(lambda: successor.ledger.get(waiting.id) is not None)
    assert victim.ledger.get(waiting.id) is not None, "it knows of nothing"
    launches = list(cluster.livekit.launches)
    victim.resume()
    cluster.livekit.slots = 0
    await asyncio.sleep(1)
    assert cluster.livekit.launches == launches
    await asyncio.sleep(5)
    owner = await cluster.wait_for_owner()
    assert owner is victim, "the agent goes back to it"
    assert successor.ledger.get(waiting.id) is None
    found = victim.ledger.get(waiting.id)
    assert found is not None
    assert found.state is CallState.WAITING


@pytest.mark.parametrize("seconds", [round(0.2 * number + 0.003, 3) for number in range(1, 12)])
async def test_container_that_starts_again_never_acts_beside_another_gateway(cluster: Cluster, seconds: float) -> None:
    """A request finds nothing at its port just before it listens, so the others pass over the process before it."""
    victim = await cluster.wait_for_owner()
    call = await cluster.open_call("one-and-the-same")
    await victim.kill()
    await asyncio.sleep(seconds)
    for one in cluster.replicas:
        if one is not victim:
            one.members.refused(victim.members.me.name)
    again = Replica(f"{victim.name}.2", cluster.controller, cluster.livekit, victim.members.me.address)
    cluster.replicas.append(again)
    cluster.meet()
    for _ in range(600):
        await asyncio.sleep(0.01)
        cluster.owner()  # never two
    assert cluster.owner() is not None
    assert again.members.may_act()
    assert victim.name not in {member.name for member in again.members.known}
    assert len(cluster.livekit.agents_in(call.room)) == 1


async def test_rolling_update_hands_each_call_over(cluster: Cluster) -> None:
    calls = [await cluster.open_call(f"one-and-the-same-{number}") for number in range(3)]
    for number, old in enumerate(list(cluster.replicas)):
        cluster.replicas.append(Replica(f"new{number}", cluster.controller, cluster.livekit))
        cluster.meet()
        await asyncio.sleep(SETTLED_SECONDS)
        await old.leave()
        await asyncio.sleep(2)
    for number, call in enumerate(calls):
        await becomes_true(lambda number=number: len(cluster.joined) > number)  # type: ignore[misc]
        await cluster.hang_up(call)
    assert cluster.joined == [call.room for call in calls]
    accepted = [room for room, name in cluster.livekit.launches if name == "ornina-agent"]
    assert accepted == cluster.joined


async def test_replicas_keep_their_agents_while_no_controller_answers(cluster: Cluster) -> None:
    owner = await cluster.wait_for_owner()
    for one in cluster.replicas:
        await one.cut_off()
    for _ in range(100):
        await asyncio.sleep(0.1)
        assert cluster.owner() is owner
    call = await cluster.open_call("one-and-the-same")
    await becomes_true(lambda: cluster.joined == [call.room])
    for one in cluster.replicas:
        one.resume()
    for _ in range(50):
        await asyncio.sleep(0.1)
        assert cluster.owner() is owner
    await cluster.hang_up(call)


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_owner_that_stops_without_a_controller_is_missed_until_one_answers(cluster: Cluster, how: str) -> None:
    owner = await cluster.wait_for_owner()
    for one in cluster.replicas:
        await one.cut_off()
    await asyncio.sleep(3)
    await getattr(owner, how)()
    await asyncio.sleep(5)
    assert cluster.owner() is None, "no gateway can know that it is the only one"
    for one in cluster.replicas:
        if one is not owner:
            one.resume()
    await becomes_true(lambda: cluster.owner() not in (None, owner))
