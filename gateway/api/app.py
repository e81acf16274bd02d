"""The web application: routes, errors, measured requests, and CORS."""

import time
from collections.abc import Callable

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.agents import AgentDirectory
from gateway.api import openapi
from gateway.api.context import Gateway
from gateway.api.forwarding import is_internal
from gateway.api.origins import allowed_origins
from gateway.api.problems import answer_errors
from gateway.api.routes import ROUTES

_ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key"
_PREFLIGHT_SECONDS = "600"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def create_app(gateway: Gateway) -> FastAPI:
    """Create the web application of a gateway."""
    app = FastAPI(docs_url=None, redoc_url=None, routes=list(ROUTES))
    app.state.gateway = gateway
    described = openapi.document(ROUTES)
    app.openapi = lambda: described  # type: ignore[method-assign]
    app.add_middleware(
        RequestTimer, observe=gateway.metrics.record_request, internal_port=gateway.settings.internal_port
    )
    app.add_middleware(CrossOrigin, agents=gateway.agents)  # outside: preflight requests are not measured
    answer_errors(app, gateway.metrics)
    return app


class RequestTimer:
    """Measures HTTP requests. Paths that no route has, and methods that no route has, each share one label value.

    A forwarded request counts once, at the gateway that its client has sent it to.
    """

    def __init__(self, app: ASGIApp, observe: Callable[[str, str, int, float], None], internal_port: int) -> None:
        """``observe`` receives route, method, status and seconds of each answered request."""
        self._app = app
        self._internal_port = internal_port
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_internal(scope, self._internal_port):
            return await self._app(scope, receive, send)
        started, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            status = status or 500  # the handler of unexpected errors, which is outside, answers with it
            raise
        finally:
            if status:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                path = getattr(scope.get("route"), "path", "unmatched")
                self._observe(path, method, status, time.monotonic() - started)


class CrossOrigin:
    """CORS by exact origin. A response names the request's origin if an agent allows it, and no other origin.

    Pages of an Authenticated agent's origins follow calls that a back end opened, with the call token. Not this class
    but `gateway.api.access` decides whether an origin may open a call to one agent.
    """

    def __init__(self, app: ASGIApp, agents: AgentDirectory) -> None:
        self._app = app
        self._agents = agents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(("/v1/", "/api/")):
            return await self._app(scope, receive, send)
        origin = Headers(scope=scope).get("origin", "")
        allowed = origin in allowed_origins(self._agents)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                if allowed:
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Expose-Headers"] = "Retry-After"
            await send(message)

        if scope["method"] == "OPTIONS" and allowed:
            return await _preflight()(scope, receive, answer)
        await self._app(scope, receive, answer)


def _preflight() -> Response:
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        },
    )
