"""The call page, its files, and readiness. They are no part of the API."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from agentspec import DispatchAccess
from gateway.agents import Agent
from gateway.api.requests import gateway_of
from gateway.errors import ErrorReason, RequestError

router = APIRouter(include_in_schema=False)


@router.get("/")
async def call_page(request: Request, agent: str = "") -> Response:
    """Serve the call page. It always loads; errors about the agent appear on the page."""
    gateway = gateway_of(request)
    namespace, _, name = agent.rpartition("/")
    found = gateway.agents.get(namespace or gateway.settings.default_namespace, name)
    # The page's headers contain the URL of the agent's LiveKit server. Only Public agents may reveal it.
    public = isinstance(found, Agent) and found.spec.dispatch.access is DispatchAccess.PUBLIC
    return gateway.pages.page(found if isinstance(found, Agent) and public else None)


@router.api_route("/assets/{version}/{name}", methods=["GET", "HEAD"])
async def asset(request: Request, version: str, name: str) -> Response:
    """Serve a file of the call page."""
    return await gateway_of(request).pages.assets.answer(version, name, request.scope)


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Report whether the gateway takes calls, for a load balancer or a port-forward in front of it.

    Kubernetes asks the probe port instead (`process.health`).
    """
    if reason := gateway_of(request).not_ready():
        raise RequestError(
            503, ErrorReason.NOT_READY, f"The gateway is starting: {reason}. Try again.", retry_after_seconds=1
        )
    return JSONResponse({"ready": True})
