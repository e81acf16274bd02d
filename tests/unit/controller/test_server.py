"""The controller's HTTP, over a real connection: what the cluster, Prometheus and gateways receive."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest

from controller.fleet import gateways
from controller.fleet.jobs import WorkerJobs
from controller.metrics import Metrics
from controller.observation import Key
from controller.runtime.authentication import GatewayAuthentication
from controller.runtime.server import ControllerServer
from kube.client import ApiError
from tests.ports import free_port
from tests.unit.controller.builders import KEY, fleet, pod, status

GATEWAY = {"Authorization": "Bearer gateway"}


class Authentication:
    """Accepts the gateway's token; fails while `failure` is set."""

    failure: ApiError | None = None

    async def is_gateway(self, header: str) -> bool:
        if self.failure is not None:
            raise self.failure
        return header == "Bearer gateway"


class Scene:
    """A server, one agent with one worker, and a client."""

    def __init__(self) -> None:
        self.fleet, self.jobs, self.authentication = fleet(pod()), WorkerJobs(), Authentication()
        self.enqueued: list[Key] = []
        self.live, self.ready, self.is_leader, self.has_synced = "", "", True, True
        self.server = ControllerServer(
            fleet=self.fleet,
            jobs=self.jobs,
            metrics=Metrics(),
            authentication=cast(GatewayAuthentication, self.authentication),
            enqueue=self.enqueued.append,
            live=lambda: self.live,
            ready=lambda: self.ready,
            is_leader=lambda: self.is_leader,
            has_synced=lambda: self.has_synced,
        )
        self._url = ""
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Scene"]:
        port = free_port()  # port 0 would be another port for each address family
        async with self.server.serving(port), aiohttp.ClientSession() as self._session:
            self._url = f"http://127.0.0.1:{port}"
            yield self

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        assert self._session is not None
        async with self._session.get(f"{self._url}{path}", headers=headers) as response:
            return response.status, await response.text()

    async def events(self, headers: dict[str, str] = GATEWAY) -> tuple[int, str]:
        """Request the events of a server that ends all streams at once."""
        closing = asyncio.create_task(self._close_events())
        try:
            return await self.get("/v1/events", headers)
        finally:
            closing.cancel()

    async def connections(self) -> list[object]:
        """The open connections of the client after a request of both endpoints."""
        assert self._session is not None
        assert self._session.connector is not None
        await self.demand({"gateway": "g"})
        await self.get("/v1/events", GATEWAY)
        return [one for found in self._session.connector._conns.values() for one in found]

    async def _close_events(self) -> None:
        while True:
            self.server.events.close()
            await asyncio.sleep(0.01)

    async def demand(self, body: object, headers: dict[str, str] = GATEWAY, query: str = "") -> tuple[int, Any]:
        assert self._session is not None
        async with self._session.post(f"{self._url}/v1/demand{query}", json=body, headers=headers) as response:
            return response.status, await response.json()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with Scene().running() as running:
        yield running


async def test_failed_checks_answer_the_reason(scene: Scene) -> None:
    assert await scene.get("/livez") == (200, "ok\n")
    assert await scene.get("/readyz") == (200, "ok\n")
    scene.live = "the watch of Pod was last heard 200 s ago"
    scene.ready = "not listed yet: NetworkPolicy (if this stays, the log says why)"
    assert await scene.get("/livez") == (503, f"{scene.live}\n")
    assert await scene.get("/readyz") == (503, f"{scene.ready}\n")


async def test_metrics_are_exposed(scene: Scene) -> None:
    code, text = await scene.get("/metrics")
    assert code == 200
    assert "# HELP avatar_agent_controller_leading" in text


async def test_gateway_reports_demand_and_receives_supply(scene: Scene) -> None:
    scene.fleet.record_status(KEY, "pod-1", status(calls=1), time.monotonic())
    code, supply = await scene.demand({"gateway": "gateway-0", "pending": {"shop/ava": 2, "shop/nobody": 1}})
    assert code == 200
    assert set(supply["agents"]) == {"shop/ava"}
    assert supply["agents"]["shop/ava"]["slots"] == 4
    assert supply["agents"]["shop/ava"]["freeSlots"] == 3
    assert scene.fleet.pending(KEY) == 2
    assert scene.enqueued == [KEY], "only the agent whose demand changed"
    await scene.demand({"gateway": "gateway-0", "pending": {"shop/ava": 2}})
    assert scene.enqueued == [KEY]


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        pytest.param({"pending": {}}, 400, "InvalidDemand", id="no gateway"),
        pytest.param({"gateway": "g", "pending": {"shop/ava": "many"}}, 400, "InvalidDemand", id="not a number"),
        pytest.param([], 400, "InvalidDemand", id="not an object"),
        pytest.param({"gateway": "g" * 300_000}, 413, "TooLarge", id="too large"),
    ],
)
async def test_invalid_demand_is_rejected(scene: Scene, body: object, code: int, reason: str) -> None:
    status_code, answer = await scene.demand(body)
    assert (status_code, answer["reason"]) == (code, reason)
    assert answer["message"]
    assert scene.enqueued == []


async def test_only_gateways_are_authenticated(scene: Scene) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}):
        code, answer = await scene.demand({"gateway": "g"}, headers)
        assert (code, answer["reason"]) == (401, "Unauthenticated")
    assert scene.fleet.pending(KEY) == 0


async def test_failed_token_check_answers_503_not_401(scene: Scene) -> None:
    scene.authentication.failure = ApiError(0, "Unreachable", "POST", "connection refused")
    code, answer = await scene.demand({"gateway": "g"})
    assert (code, answer["reason"]) == (503, "TokenCheckFailed")


async def test_standby_accepts_no_demand(scene: Scene) -> None:
    scene.is_leader = False
    code, answer = await scene.demand({"gateway": "g", "pending": {"shop/ava": 1}})
    assert (code, answer["reason"]) == (503, "NotLeader")
    assert scene.fleet.pending(KEY) == 0


async def test_standby_closes_the_connection_of_a_gateway(scene: Scene) -> None:
    """The next attempt opens another one, through the Service, which selects the leader."""
    scene.is_leader = False
    assert (await scene.connections(), await scene.connections()) == ([], []), "a standby keeps none"
    scene.is_leader, scene.has_synced = True, False
    await scene.demand({"gateway": "g"})
    assert len(await scene.connections()) == 1, "the leader keeps it"


async def test_new_leader_records_demand_before_it_synced(scene: Scene) -> None:
    scene.has_synced = False
    code, answer = await scene.demand({"gateway": "g", "pending": {"shop/ava": 3}})
    assert (code, answer["reason"]) == (503, "NotSynced")
    assert "The demand is recorded" in answer["message"]
    assert scene.fleet.pending(KEY) == 3
    assert scene.enqueued == [KEY], "workers start for the waiting calls"
    scene.has_synced = True
    code, _ = await scene.demand({"gateway": "g", "pending": {"shop/ava": 3}})
    assert code == 200


async def test_gateway_receives_the_jobs_of_workers(scene: Scene) -> None:
    job = {"jobID": "AJ_1", "room": "ava-1", "state": "joined", "outcome": ""}
    scene.jobs.record(KEY, "pod-1", status(jobs=[job]), time.monotonic())
    code, text = await scene.events()
    assert code == 200
    assert json.loads(text.splitlines()[0]) == {"agent": "shop/ava", "worker": "pod-1", "jobs": [job], "lost": False}


async def test_events_are_for_gateways_at_a_leader_that_synced(scene: Scene) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}):
        code, text = await scene.get("/v1/events", headers)
        assert (code, json.loads(text)["reason"]) == (401, "Unauthenticated")
    scene.has_synced = False
    code, text = await scene.get("/v1/events", GATEWAY)
    assert (code, json.loads(text)["reason"]) == (503, "NotSynced")
    scene.is_leader = False
    code, text = await scene.get("/v1/events", GATEWAY)
    assert (code, json.loads(text)["reason"]) == (503, "NotLeader")
    scene.is_leader = True
    scene.authentication.failure = ApiError(0, "Unreachable", "POST", "connection refused")
    code, text = await scene.get("/v1/events", GATEWAY)
    assert (code, json.loads(text)["reason"]) == (503, "TokenCheckFailed")


async def test_gateways_with_an_address_learn_of_each_other(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.demand({"gateway": "g1"}, query="?address=10.0.0.1:8082")
    monkeypatch.setattr(scene.server._gateways, "_since", 0.0)
    monkeypatch.setattr(gateways, "MEMBER_SECONDS", 60.0)  # a busy machine must drop none
    await scene.demand({"gateway": "g1"}, query="?address=10.0.0.1:8082")
    _, supply = await scene.demand({"gateway": "g2"}, query="?address=10.0.0.2:8082")
    assert supply["gateways"] == [
        {"name": "g1", "address": "10.0.0.1:8082"},
        {"name": "g2", "address": "10.0.0.2:8082"},
    ]
    await scene.demand({"gateway": "g1"}, query="?address=10.0.0.1:8082&leaving=true")
    _, supply = await scene.demand({"gateway": "g2"}, query="?address=10.0.0.2:8082")
    assert [found["name"] for found in supply["gateways"]] == ["g2"]


async def test_gateway_without_an_address_gets_no_gateways(scene: Scene) -> None:
    _, supply = await scene.demand({"gateway": "g1"})
    assert "gateways" not in supply
