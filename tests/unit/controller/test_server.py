"""The controller's HTTP, over a real connection: what the cluster, Prometheus and gateways get."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest

from controller.fleet.fleet import Fleet
from controller.metrics import Metrics
from controller.observation import Key
from controller.runtime.authentication import GatewayAuthentication
from controller.runtime.server import ControllerServer
from kube.client import ApiError
from tests.ports import free_port
from tests.unit.controller.builders import pod, spec, status

KEY = Key("shop", "ava")
GATEWAY = {"Authorization": "Bearer gateway"}


class Knowing:
    """Knows the gateway's token, unless the API server cannot be asked."""

    failure: ApiError | None = None

    async def is_gateway(self, header: str) -> bool:
        if self.failure is not None:
            raise self.failure
        return header == "Bearer gateway"


class Scene:
    """A server with one agent that has one worker with a call, and somebody who asks."""

    def __init__(self) -> None:
        self.fleet, self.authentication = Fleet(), Knowing()
        self.changed: list[Key] = []
        self.stuck, self.not_ready, self.leading, self.knowing = "", "", True, True
        self.fleet.declare(KEY, "uid-ava", spec())
        self.fleet.see_pods(KEY, [pod()])
        self.server = ControllerServer(
            fleet=self.fleet,
            metrics=Metrics(),
            authentication=cast(GatewayAuthentication, self.authentication),
            changed=self.changed.append,
            stuck=lambda: self.stuck,
            not_ready=lambda: self.not_ready,
            leading=lambda: self.leading,
            knowing=lambda: self.knowing,
        )
        self._url = ""
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Scene"]:
        port = free_port()  # one for both families of addresses: the system would give each another one
        async with self.server.listening(port), aiohttp.ClientSession() as self._session:
            self._url = f"http://127.0.0.1:{port}"
            yield self

    async def get(self, path: str) -> tuple[int, str]:
        assert self._session is not None
        async with self._session.get(f"{self._url}{path}") as response:
            return response.status, await response.text()

    async def demand(self, body: object, headers: dict[str, str] = GATEWAY) -> tuple[int, Any]:
        assert self._session is not None
        async with self._session.post(f"{self._url}/v1/demand", json=body, headers=headers) as response:
            return response.status, await response.json()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with Scene().running() as running:
        yield running


async def test_health_tells_what_is_wrong(scene: Scene) -> None:
    assert await scene.get("/livez") == (200, "ok\n")
    assert await scene.get("/readyz") == (200, "ok\n")
    scene.stuck = "the watch of Pod was last heard 200 s ago"
    scene.not_ready = "not listed yet: NetworkPolicy (if this stays, the log says why)"
    assert await scene.get("/livez") == (503, f"{scene.stuck}\n")
    assert await scene.get("/readyz") == (503, f"{scene.not_ready}\n")


async def test_metrics_are_exposed(scene: Scene) -> None:
    code, text = await scene.get("/metrics")
    assert code == 200
    assert "# HELP avatar_agent_controller_leading" in text


async def test_a_gateway_tells_its_demand_and_learns_the_supply(scene: Scene) -> None:
    scene.fleet.hear_worker(KEY, "pod-1", status(calls=1), time.monotonic())
    code, supply = await scene.demand({"gateway": "gateway-0", "pending": {"shop/ava": 2, "shop/nobody": 1}})
    assert code == 200
    assert set(supply["agents"]) == {"shop/ava"}
    assert supply["agents"]["shop/ava"]["slots"] == 4
    assert supply["agents"]["shop/ava"]["freeSlots"] == 3
    assert scene.fleet.pending(KEY) == 2
    assert scene.changed == [KEY], "who has more to do is told at once, and nobody else"
    await scene.demand({"gateway": "gateway-0", "pending": {"shop/ava": 2}})
    assert scene.changed == [KEY]


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        pytest.param({"pending": {}}, 400, "InvalidDemand", id="nobody's"),
        pytest.param({"gateway": "g", "pending": {"shop/ava": "many"}}, 400, "InvalidDemand", id="no number"),
        pytest.param([], 400, "InvalidDemand", id="no demand at all"),
        pytest.param({"gateway": "g" * 300_000}, 413, "TooLarge", id="far too much"),
    ],
)
async def test_a_demand_that_cannot_be_read_is_refused(scene: Scene, body: object, code: int, reason: str) -> None:
    refused, answer = await scene.demand(body)
    assert (refused, answer["reason"]) == (code, reason)
    assert answer["message"]
    assert scene.changed == []


async def test_only_gateways_are_answered(scene: Scene) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}):
        code, answer = await scene.demand({"gateway": "g"}, headers)
        assert (code, answer["reason"]) == (401, "Unauthenticated")
    assert scene.fleet.pending(KEY) == 0


async def test_a_token_that_cannot_be_checked_is_no_refusal_of_the_token(scene: Scene) -> None:
    scene.authentication.failure = ApiError(0, "Unreachable", "POST", "connection refused")
    code, answer = await scene.demand({"gateway": "g"})
    assert (code, answer["reason"]) == (503, "TokenNotChecked")


async def test_who_does_not_lead_takes_no_demand(scene: Scene) -> None:
    scene.leading = False
    code, answer = await scene.demand({"gateway": "g", "pending": {"shop/ava": 1}})
    assert (code, answer["reason"]) == (503, "NotLeading")
    assert scene.fleet.pending(KEY) == 0


async def test_who_has_just_begun_to_lead_notes_the_demand_and_says_so(scene: Scene) -> None:
    scene.knowing = False
    code, answer = await scene.demand({"gateway": "g", "pending": {"shop/ava": 3}})
    assert (code, answer["reason"]) == (503, "WorkersNotKnown")
    assert "the demand is noted" in answer["message"]
    assert scene.fleet.pending(KEY) == 3
    assert scene.changed == [KEY], "workers are started for those who wait"
    scene.knowing = True
    code, _ = await scene.demand({"gateway": "g", "pending": {"shop/ava": 3}})
    assert code == 200
