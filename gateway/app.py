"""Assembles the web application: routes, errors as JSON, and the headers that let other origins' pages in."""

import logging
from collections.abc import Iterable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentspec import DispatchAccess
from gateway.agents import Agent, AgentDirectory
from gateway.context import Gateway
from gateway.errors import ErrorReason, RequestError
from gateway.routes import router

_ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key"
_PREFLIGHT_SECONDS = "600"

logger = logging.getLogger(__name__)


def create_app(gateway: Gateway) -> FastAPI:
    """The application around the parts of a gateway."""
    app = FastAPI(title="Avatar agent gateway", version="v1", docs_url=None, redoc_url=None)
    app.state.gateway = gateway
    app.include_router(router)
    app.add_middleware(CrossOrigin, agents=gateway.agents)

    async def refused(request: Request, error: Exception) -> Response:
        problem = _as_request_error(error)
        gateway.metrics.requests_refused.labels(problem.reason.value).inc()
        if problem.status >= 500:
            logger.warning("request failed", extra={"path": request.url.path, "reason": problem.reason.value})
        return JSONResponse(problem.document(), problem.status, headers=problem.headers())

    for kind in (RequestError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, refused)
    return app


def _as_request_error(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return RequestError(400, ErrorReason.INVALID_REQUEST, f"{field} is wrong: {first['msg']}.", field=field)
    if isinstance(error, HTTPException) and error.status_code == 405:
        return RequestError(405, ErrorReason.METHOD_NOT_ALLOWED, "This method is not served here.")
    if isinstance(error, HTTPException) and error.status_code < 500:
        return RequestError(error.status_code, ErrorReason.NOT_FOUND, "There is nothing here; see /openapi.json.")
    return RequestError(500, ErrorReason.INTERNAL, "The gateway made a mistake; its log says which.")


class CrossOrigin:
    """CORS by exact origin: each origin that a Public agent allows is named in answers to itself, and no other.

    Whether an origin may call a certain agent is decided by `gateway.access`, not here.
    """

    def __init__(self, app: ASGIApp, agents: AgentDirectory) -> None:
        self._app = app
        self._agents = agents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
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


def allowed_origins(agents: AgentDirectory) -> Iterable[str]:
    """Origins that any Public agent allows."""
    return {
        origin
        for agent in agents.all()
        if isinstance(agent, Agent) and agent.spec.dispatch.access is DispatchAccess.PUBLIC
        for origin in agent.spec.dispatch.allowed_origins
    }
