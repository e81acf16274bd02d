"""The controller's HTTP server: health and metrics for the cluster, POST /v1/demand and GET /v1/events for gateways."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from agentspec.wire import ADDRESS_QUERY, LEAVING_QUERY, NOT_SYNCED, Demand, Supply, read, render
from controller.fleet.fleet import Fleet
from controller.fleet.gateways import Gateways
from controller.fleet.jobs import WorkerJobs
from controller.metrics import Metrics
from controller.observation import Key
from controller.runtime.authentication import GatewayAuthentication
from controller.runtime.events import EventStreams
from kube.client import ApiError
from process import health

logger = logging.getLogger(__name__)

_MAX_DEMAND_BYTES: Final = 256 * 1024
"""Enough for some thousand agents."""


def _rejection(status: int, reason: str, message: str) -> web.Response:
    return web.json_response({"reason": reason, "message": message}, status=status)


class ControllerServer:
    """Serves the endpoints."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        jobs: WorkerJobs,
        metrics: Metrics,
        authentication: GatewayAuthentication,
        enqueue: Callable[[Key], None],
        live: health.Check,
        ready: health.Check,
        is_leader: Callable[[], bool],
        has_synced: Callable[[], bool],
    ) -> None:
        """`enqueue` gets every agent whose demand changed. `has_synced` returns whether the controller has heard from
        the workers of all agents; before that, idle workers would seem to have no slots."""
        self._fleet = fleet
        self._gateways = Gateways()
        self._authentication = authentication
        self._enqueue = enqueue
        self._is_leader = is_leader
        self._has_synced = has_synced
        self.events = EventStreams(jobs, is_leader, time.monotonic)
        self._app = health.health_app(
            live=live,
            ready=ready,
            metrics=health.exposition_of(metrics.registry),
            max_body_bytes=_MAX_DEMAND_BYTES,
        )
        self._app.router.add_post("/v1/demand", self._demand)
        self._app.router.add_get("/v1/events", self._stream_events)

    def serving(self, port: int) -> AbstractAsyncContextManager[int]:
        """Serve on all addresses within the context, which yields the port."""
        return health.serving(self._app, port)

    async def _refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a request that is not a gateway's or reaches a standby; None: serve it."""
        if not self._is_leader():
            message = "Another controller is the leader. The controller's Service selects it."
            answer = _rejection(503, "NotLeader", message)
            answer.force_close()  # a gateway that kept the connection would never reach the leader
            return answer
        try:
            is_gateway = await self._authentication.is_gateway(request.headers.get("Authorization", ""))
        except ApiError as error:
            logger.warning("could not check the gateway's token", extra={"error": str(error)})
            return _rejection(503, "TokenCheckFailed", "The API server could not check the token. Retry.")
        if not is_gateway:
            return _rejection(401, "Unauthenticated", "Send the gateway's ServiceAccount token as a bearer token.")
        return None

    async def _stream_events(self, request: web.Request) -> web.StreamResponse:
        if (refusal := await self._refusal(request)) is not None:
            return refusal
        if not self._has_synced():
            message = "This controller became the leader and has not heard from all workers yet. Retry."
            return _rejection(503, NOT_SYNCED, message)
        return await self.events.answer(request)

    async def _demand(self, request: web.Request) -> web.Response:
        if (refusal := await self._refusal(request)) is not None:
            return refusal
        try:
            demand = read(Demand, await request.read())
        except web.HTTPRequestEntityTooLarge:
            return _rejection(413, "TooLarge", f"A demand has at most {_MAX_DEMAND_BYTES} bytes.")
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            return _rejection(400, "InvalidDemand", f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")
        now = time.monotonic()
        for key in self._fleet.record_demand(demand, now):
            self._enqueue(key)
        address = request.query.get(ADDRESS_QUERY, "")
        if LEAVING_QUERY in request.query:
            self._gateways.left(demand.gateway)
        else:
            self._gateways.heard(demand.gateway, address, now)
        if not self._has_synced():
            message = (
                "This controller became the leader and has not heard from all workers yet. The demand is recorded."
            )
            return _rejection(503, NOT_SYNCED, message)
        gateways = self._gateways.members(now) if address else None
        supply = Supply(agents=self._fleet.supply(now), gateways=gateways)
        return web.Response(text=render(supply), content_type="application/json")
