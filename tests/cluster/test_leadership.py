"""Two controllers, each behind a proxy that records its requests: the leader writes, and the standby takes over."""

import asyncio
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentspec.names import LEADER, LEADER_LABEL
from controller.runtime.lease import LEASE
from controller.runtime.settings import LEASE_NAME
from kube.kinds import POD
from tests.cluster.instance import RELEASE_NAMESPACE, release
from tests.cluster.process import START_SECONDS, RunningController, launch
from tests.cluster.proxy import Proxy, proxied
from tests.cluster.world import World
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(240)

STOPPED_SECONDS = 10.0
"""Limit until the standby leads after the leader was stopped, on a busy machine; the Lease expires later."""
LOST_SECONDS = 30.0
"""Limit until the standby leads after the leader was killed or disconnected."""
ENDED_SECONDS = 15.0
"""Limit until a process ends that was stopped or lost the Lease; the Lease expires later."""


@dataclass
class Replica:
    """One of the two controllers."""

    pod: str
    controller: RunningController
    proxy: Proxy

    @property
    def writes(self) -> list[str]:
        """Its write requests, except those to the Lease."""
        return [f"{done.method} {done.path}" for done in self.proxy.exchanges if done.writes]

    async def leads(self) -> bool:
        return await asyncio.to_thread(self.controller.leads)

    async def follows(self, seconds: float) -> None:
        await eventually(self.leads, f"{self.pod} leads", seconds)

    @property
    def began(self) -> float:
        """When it became the leader, as Unix time."""
        return self.controller.logged("became leader")

    async def ends(self, seconds: float) -> tuple[int, float]:
        """Wait until it ends; return its exit code and the Unix time."""
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(lambda: (self.controller.process.wait(), time.time()))


@dataclass
class Pair:
    """The leader and the standby."""

    leader: Replica
    standby: Replica


@pytest.fixture
async def pair(world: World, controller_kubeconfig: Path, tmp_path: Path) -> AsyncIterator[Pair]:
    """Start both controllers for the test's namespace, without a Lease of an earlier test."""
    await world.client.delete(LEASE, RELEASE_NAMESPACE, LEASE_NAME)
    async with AsyncExitStack() as stack:
        replicas = []
        for pod in ("controller-1", "controller-2"):
            replicas.append(await _replica(stack, world, pod, controller_kubeconfig, tmp_path / pod))
            if len(replicas) == 1:
                await replicas[0].follows(START_SECONDS)
        await eventually(lambda: asyncio.to_thread(_stands_by, replicas[1]), "the second is the standby")
        yield Pair(*replicas)
        for replica in replicas:
            assert replica.controller.unexpected() == []


async def _replica(stack: AsyncExitStack, world: World, pod: str, kubeconfig: Path, folder: Path) -> Replica:
    proxy, own = await stack.enter_async_context(proxied(kubeconfig, folder))
    await _put_pod(stack, world, pod)
    where = {"POD_NAME": pod, "POD_NAMESPACE": RELEASE_NAMESPACE}
    controller = launch(sys.executable, own, folder / "log", world.namespace, **where)
    stack.push_async_callback(asyncio.to_thread, _end, controller)
    return Replica(pod, controller, proxy)


async def _put_pod(stack: AsyncExitStack, world: World, name: str) -> None:
    """Create a replica's pod, with the Deployment's labels and the leader's label of an earlier process."""
    deployment = await asyncio.to_thread(_of_release, world, "Deployment")
    labels = {**deployment["spec"]["template"]["metadata"]["labels"], LEADER_LABEL: LEADER}
    container = {"name": "controller", "image": "controller.example/image"}
    spec = {"containers": [container], "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0}
    metadata = {"namespace": RELEASE_NAMESPACE, "name": name, "labels": labels}
    await world.client.apply(POD, {"metadata": metadata, "spec": spec})
    stack.push_async_callback(world.client.delete, POD, RELEASE_NAMESPACE, name)


def _end(controller: RunningController) -> None:
    if controller.process.poll() is None:
        controller.process.send_signal(signal.SIGCONT)
        controller.stop()


def _of_release(world: World, kind: str) -> dict[str, Any]:
    """Return the chart's object of this kind for the controller."""
    (found,) = [
        document
        for document in release(world.cluster)
        if (document["kind"], document["metadata"]["name"]) == (kind, LEASE_NAME)
    ]
    return found


def _stands_by(replica: Replica) -> bool:
    waits = any(line["message"] == "waiting for the lease" for line in replica.controller.log())
    return waits and replica.controller.answers("/readyz") == 200


async def _serves(world: World, *pods: str) -> None:
    """Wait until the controller's Service selects exactly these pods."""
    service = await asyncio.to_thread(_of_release, world, "Service")
    labels = service["spec"]["selector"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())

    async def look() -> bool:
        found = await world.client.list(POD, RELEASE_NAMESPACE, selector)
        return {pod["metadata"]["name"] for pod in found} == set(pods)

    await eventually(look, f"behind the Service: {pods}")


async def test_standby_reads_only_the_lease(world: World, pair: Pair) -> None:
    await world.running("ava")
    await world.declare("ava", persona={"instructions": "Speak like a pirate."})
    await eventually(lambda: _rolled(world), "the new configuration is rolled out")
    await _serves(world, pair.leader.pod)
    assert pair.leader.writes
    lease = LEASE.path(RELEASE_NAMESPACE, LEASE_NAME)
    asked = {(done.method, done.path) for done in pair.standby.proxy.exchanges}
    own_pod = POD.path(RELEASE_NAMESPACE, pair.standby.pod)
    assert asked == {("GET", lease), ("PATCH", own_pod)}
    assert pair.standby.writes == [f"PATCH {own_pod}"], (
        "it only removes the label of an earlier leader from its own pod"
    )
    held = await world.client.get(LEASE, RELEASE_NAMESPACE, LEASE_NAME)
    assert held is not None
    assert held["spec"]["leaseDurationSeconds"] == 15
    assert await asyncio.to_thread(_post_demand, pair.standby) == 503, (
        "a standby rejects demand, so that the gateway finds the leader"
    )
    assert await asyncio.to_thread(_post_demand, pair.leader) == 401, "the leader checks the token"


async def _rolled(world: World) -> bool:
    status: dict[str, Any] = (await world.agent("ava")).get("status", {})
    return status.get("observedGeneration") == 2


def _post_demand(replica: Replica) -> int:
    request = urllib.request.Request(f"{replica.controller.url}/v1/demand", b"{}", method="POST")
    try:
        urllib.request.urlopen(request, timeout=5)
    except urllib.error.HTTPError as error:
        return error.code
    raise AssertionError("a demand without a token was accepted")


async def test_standby_leads_at_once_after_leader_stops(world: World, pair: Pair) -> None:
    await world.running("ava")
    stopped = time.time()
    pair.leader.controller.process.terminate()
    await pair.standby.follows(LOST_SECONDS)
    assert pair.standby.began - stopped < STOPPED_SECONDS
    assert (await pair.leader.ends(ENDED_SECONDS))[0] == 0
    # The old leader's pod goes with its process, and its label with it.
    await _serves(world, pair.leader.pod, pair.standby.pod)
    await _works(world, pair.standby)


async def test_standby_leads_after_leader_is_killed(world: World, pair: Pair) -> None:
    await world.running("ava")
    pair.leader.controller.process.kill()
    await pair.standby.follows(LOST_SECONDS)
    await _works(world, pair.standby)


async def test_disconnected_leader_ends_before_standby_leads(world: World, pair: Pair) -> None:
    await world.running("ava")
    await pair.leader.proxy.stop()
    code, ended = await pair.leader.ends(LOST_SECONDS)
    assert code == 1
    lost = [line for line in pair.leader.controller.log() if line["message"] == "lease lost"]
    assert [line["level"] for line in lost] == ["warning"]
    await pair.standby.follows(LOST_SECONDS)
    assert ended < pair.standby.began, "the old leader ended before the new one began"
    await _works(world, pair.standby)


async def test_resumed_leader_starts_no_new_writes(world: World, pair: Pair) -> None:
    """Requests that it had sent before may still arrive, at most one for each agent."""
    await world.running("ava")
    await world.settles("ava")
    names = [f"ava-{number}" for number in range(12)]
    before = len(pair.leader.writes)
    for name in names:
        await world.declare(name)
    await eventually(lambda: _has_written(pair.leader, before + 5), "the leader has begun to write")
    pair.leader.controller.process.send_signal(signal.SIGSTOP)
    await pair.standby.follows(LOST_SECONDS)
    await world.declare("ava", persona={"instructions": "Speak like a pirate."})
    written = len(pair.leader.writes)
    pair.leader.controller.process.send_signal(signal.SIGCONT)
    assert (await pair.leader.ends(ENDED_SECONDS))[0] == 1
    late = pair.leader.writes[written:]
    assert len(late) <= len(names), late
    assert not [path for path in late if "/ava-worker" in path or "/ava/" in path], "the standby carries out the edit"
    await eventually(lambda: _rolled(world), "the new leader has reconciled the edit")
    for name in names:
        await world.becomes(name, "True")


async def _has_written(replica: Replica, times: int) -> bool:
    return len(replica.writes) >= times


async def test_leader_ends_when_the_lease_names_another_holder(world: World, pair: Pair) -> None:
    taken = {"spec": {"holderIdentity": "another controller"}}
    await world.client.merge_patch(LEASE, RELEASE_NAMESPACE, LEASE_NAME, taken)
    assert (await pair.leader.ends(ENDED_SECONDS))[0] == 1
    await pair.standby.follows(LOST_SECONDS)


async def test_stopped_standby_does_not_affect_the_leader(world: World, pair: Pair) -> None:
    pair.standby.controller.process.terminate()
    assert (await pair.standby.ends(ENDED_SECONDS))[0] == 0
    assert await pair.leader.leads()
    await world.declare("ava")
    await _works(world, pair.leader)


async def _works(world: World, replica: Replica) -> None:
    """Check that this replica carries out a new manifest."""
    before = len(replica.writes)
    await world.declare("eva")
    await world.becomes("eva", "True")
    assert len(replica.writes) > before
