"""The controller's HTTP: /livez, /readyz, /metrics for the cluster, POST /v1/demand for gateways."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError

from agentspec import Demand, Supply
from controller.fleet.fleet import Fleet
from controller.metrics import Metrics
from controller.observation import Key
from controller.runtime.authentication import GatewayAuthentication
from kube.client import ApiError

logger = logging.getLogger(__name__)

_MOST_BYTES = 256 * 1024
"""Of a demand: some thousand agents."""


def _refusal(status: int, reason: str, message: str) -> web.Response:
    return web.json_response({"reason": reason, "message": message}, status=status)


class ControllerServer:
    """Serves the endpoints."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        metrics: Metrics,
        authentication: GatewayAuthentication,
        changed: Callable[[Key], None],
        stuck: Callable[[], str],
        not_ready: Callable[[], str],
        leading: Callable[[], bool],
        knowing: Callable[[], bool],
    ) -> None:
        """`stuck` and `not_ready` return what is wrong, or nothing; `leading`: this is the controller that works;
        `knowing`: it has heard every agent's workers, before which idle ones would seem to have no slots."""
        self._fleet = fleet
        self._metrics = metrics
        self._authentication = authentication
        self._changed = changed
        self._stuck = stuck
        self._not_ready = not_ready
        self._leading = leading
        self._knowing = knowing

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[int]:
        """Serve on all addresses; gives the port."""
        application = web.Application(client_max_size=_MOST_BYTES)
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._exposition)
        application.router.add_post("/v1/demand", self._demand)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, port=port)
            await site.start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return _health(self._stuck())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _health(self._not_ready())

    async def _exposition(self, _: web.Request) -> web.Response:
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _demand(self, request: web.Request) -> web.Response:
        if not self._leading():
            return _refusal(503, "NotLeading", "Another controller leads; the controller's Service leads to it.")
        try:
            known = await self._authentication.is_gateway(request.headers.get("Authorization", ""))
        except ApiError as error:
            logger.warning("gateway's token not checked", extra={"error": str(error)})
            return _refusal(503, "TokenNotChecked", "The API server could not check the token; try again.")
        if not known:
            return _refusal(401, "Unauthenticated", "Send the gateway's ServiceAccount token as a bearer token.")
        try:
            demand = Demand.model_validate_json(await request.read())
        except web.HTTPRequestEntityTooLarge:
            return _refusal(413, "TooLarge", f"A demand has at most {_MOST_BYTES} bytes.")
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            return _refusal(400, "InvalidDemand", f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")
        now = time.monotonic()
        for key in self._fleet.hear_gateway(demand, now):
            self._changed(key)
        if not self._knowing():
            said = "This controller has just begun to lead and does not know the workers yet; the demand is noted."
            return _refusal(503, "WorkersNotKnown", said)
        return web.json_response(Supply(agents=self._fleet.supply(now)).model_dump(by_alias=True))


def _health(trouble: str) -> web.Response:
    return web.Response(text=f"{trouble or 'ok'}\n", status=503 if trouble else 200)
