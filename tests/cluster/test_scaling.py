"""Workers follow calls: demand adds workers, and scale-down removes idle ones."""

import asyncio
import subprocess
import time
from typing import Any

import aiohttp

from agentspec import ConditionType, Demand, Supply
from agentspec.names import DEMAND_AUDIENCE
from kube.kinds import SERVICE_ACCOUNT
from tests.cluster.instance import kubectl
from tests.cluster.process import GATEWAY_NAME, GATEWAY_NAMESPACE, RunningController
from tests.cluster.world import World
from tests.waiting import eventually

DEMAND_SECONDS = 3.0
"""Limit from the answer to a gateway's report until the Deployment is scaled, on a busy machine."""


def token(world: World, account: str, audience: str) -> str:
    command = [str(world.cluster.kubectl), "--kubeconfig", str(world.cluster.kubeconfig), "-n", GATEWAY_NAMESPACE]
    command += ["create", "token", account, f"--audience={audience}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


async def post(controller: RunningController, bearer: str, body: Demand | bytes) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    data = body if isinstance(body, bytes) else body.model_dump_json(by_alias=True).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{controller.url}/v1/demand", data=data, headers=headers) as response,
    ):
        return response.status, await response.json()


class Gateway:
    """Reports demand as the gateway does."""

    def __init__(self, world: World, controller: RunningController) -> None:
        self._controller = controller
        self._token = token(world, GATEWAY_NAME, DEMAND_AUDIENCE)

    async def waits(self, **pending: int) -> Supply:
        demand = Demand(gateway="gateway-0", pending={key.replace("__", "/"): calls for key, calls in pending.items()})
        status, answer = await post(self._controller, self._token, demand)
        assert status == 200, answer
        return Supply.model_validate(answer)


async def workers(world: World, number: int) -> bool:
    staying = world.standin.of("ava")
    counts = (await world.agent("ava")).get("status", {}).get("workers", {})
    return len(staying) == number and counts.get("desired") == number and counts.get("registered") == number


async def test_waiting_calls_add_workers_up_to_the_maximum(world: World, controller: RunningController) -> None:
    await world.running("ava")
    gateway = Gateway(world, controller)
    key = f"{world.namespace}__ava"

    async def scaled() -> bool:
        await gateway.waits(**{key: 5})
        return await workers(world, 3)

    await eventually(scaled, "three workers, and not five")
    supply = (await gateway.waits(**{key: 0})).agents[f"{world.namespace}/ava"]
    assert (supply.slots, supply.free_slots) == (3, 3)
    await eventually(lambda: workers(world, 1), "one worker when no call waits")


async def test_demand_scales_the_deployment_at_once(world: World, controller: RunningController) -> None:
    await world.running("ava")
    await Gateway(world, controller).waits(**{f"{world.namespace}__ava": 2})
    reported = time.time()

    async def scaled_at() -> float | None:
        deployment = await world.deployment("ava")
        if deployment is None or deployment["spec"]["replicas"] != 2:
            return None
        return controller.logged_at("workers scaled", agent=f"{world.namespace}/ava", workers=2)  # after the write

    at = await eventually(scaled_at, "two replicas")
    assert at is not None
    assert at - reported < DEMAND_SECONDS


async def test_scale_down_removes_idle_workers_first(world: World, controller: RunningController) -> None:
    await world.declare("ava", scaling={"minWorkers": 3, "maxWorkers": 3, "freeSlots": 0, "scaleDownDelaySeconds": 1})
    await eventually(lambda: workers(world, 3), "three workers")
    # Without deletion costs, Kubernetes removes the youngest pod first: so the youngest gets the call.
    youngest = max(await world.pods("ava"), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    busy = world.standin.workers[youngest["metadata"]["name"]]
    busy.calls = 1
    await world.counts_calls("ava", 1)
    await world.declare("ava", scaling={"minWorkers": 1, "maxWorkers": 3, "freeSlots": 0, "scaleDownDelaySeconds": 1})
    await eventually(lambda: workers(world, 1), "the idle workers are removed")
    assert world.standin.of("ava") == [busy]


async def test_scale_down_keeps_every_worker_with_a_call(world: World, controller: RunningController) -> None:
    roomy = {"callsPerWorker": 4}
    three = {"minWorkers": 3, "maxWorkers": 3, "freeSlots": 0, "scaleDownDelaySeconds": 0}
    await world.declare("ava", worker=roomy, scaling=three)
    await eventually(lambda: workers(world, 3), "three workers")
    first, second, _ = world.standin.of("ava")
    first.calls = second.calls = 1
    await world.counts_calls("ava", 2)
    await world.declare("ava", worker=roomy, scaling={**three, "minWorkers": 1})
    await eventually(lambda: workers(world, 2), "the workers with calls stay, although one could hold both calls")
    await controller.reconciles(world, "ava", 3)
    assert {worker.pod for worker in world.standin.of("ava")} == {first.pod, second.pod}
    second.calls = 0
    await eventually(lambda: workers(world, 1), "the idle worker is removed")
    assert world.standin.of("ava") == [first]


async def test_agent_without_minimum_starts_a_worker_for_a_call(world: World, controller: RunningController) -> None:
    await world.declare("ava", scaling={"minWorkers": 0, "maxWorkers": 2, "freeSlots": 0, "scaleDownDelaySeconds": 1})
    await world.becomes("ava", "True")
    assert world.standin.of("ava") == []
    gateway = Gateway(world, controller)

    async def scaled() -> bool:
        await gateway.waits(**{f"{world.namespace}__ava": 1})
        return await workers(world, 1)

    await eventually(scaled, "one worker")


async def test_kubectl_scale_sets_the_workers_in_fixed_mode(world: World, controller: RunningController) -> None:
    await world.declare("ava", scaling={"mode": "Fixed", "workers": 1})
    await eventually(lambda: workers(world, 1), "one worker")
    await _scaled_by_hand(world, 3)
    await _scaled_by_hand(world, 2)


async def _scaled_by_hand(world: World, number: int) -> None:
    command = ("-n", world.namespace, "scale", "avataragent", "ava", f"--replicas={number}")
    await asyncio.to_thread(kubectl, world.cluster, *command)
    await eventually(lambda: workers(world, number), f"{number} workers")
    deployment = await world.deployment("ava")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == number


async def test_suspended_agent_drains_keeps_its_children_and_resumes(
    world: World, controller: RunningController
) -> None:
    (busy,) = await world.running("ava")
    busy.calls = 1
    await world.counts_calls("ava", 1)
    before = await _all_but_pods(world)
    await world.declare("ava", suspend=True)
    seen = await world.becomes("ava", "True", "Draining", ConditionType.PROGRESSING)
    assert "1 worker" in seen["message"]
    await world.becomes("ava", "False", "Suspended")
    await eventually(lambda: _is_draining(world), "the Deployment has no replicas, and one worker drains")
    await controller.reconciles(world, "ava", 3)
    assert world.standin.workers == {busy.pod: busy}, "no worker replaces the draining one"
    assert busy.draining and world.standin.is_in_call(busy), "the busy worker keeps its call"
    assert await _all_but_pods(world) == before
    busy.calls = 0
    await world.becomes("ava", "False", "Suspended", ConditionType.PROGRESSING)
    assert await world.pods("ava") == []
    assert await _all_but_pods(world) == before
    assert len(await world.running("ava", suspend=False)) == 1
    assert await world.rollouts("ava") == 1


async def _all_but_pods(world: World) -> set[str]:
    return {child for child in await world.child_names() if not child.startswith("Pod/")}


async def _is_draining(world: World) -> bool:
    status, deployment = (await world.agent("ava"))["status"], await world.deployment("ava")
    assert deployment is not None
    leaving = status["workers"]["draining"] == 1 and status["calls"]["active"] == 1
    return bool(leaving and status["workers"]["desired"] == 0 and deployment["spec"]["replicas"] == 0)


async def test_only_the_gateway_may_report_demand(world: World, controller: RunningController) -> None:
    demand = Demand(gateway="gateway-0", pending={})
    assert (await post(controller, "", demand))[0] == 401
    assert (await post(controller, "not-a-token", demand))[0] == 401
    wrong_audience = token(world, GATEWAY_NAME, "other-audience")
    assert (await post(controller, wrong_audience, demand))[0] == 401
    account = {"metadata": {"namespace": GATEWAY_NAMESPACE, "name": "stranger"}}
    await world.put(SERVICE_ACCOUNT, account)
    stranger = token(world, "stranger", DEMAND_AUDIENCE)
    status, answer = await post(controller, stranger, demand)
    assert (status, answer["reason"]) == (401, "Unauthenticated")


async def test_invalid_demand_is_rejected_with_a_reason(world: World, controller: RunningController) -> None:
    bearer = token(world, GATEWAY_NAME, DEMAND_AUDIENCE)
    assert await _refused(controller, bearer, b"{") == (400, "InvalidDemand")
    assert await _refused(controller, bearer, b'{"gateway": "", "pending": {}}') == (400, "InvalidDemand")
    assert await _refused(controller, bearer, b"[]") == (400, "InvalidDemand")
    assert await _refused(controller, bearer, b" " * 300_000) == (413, "TooLarge")


async def _refused(controller: RunningController, bearer: str, body: bytes) -> tuple[int, str]:
    status, answer = await post(controller, bearer, body)
    return status, answer["reason"]
