"""What the routes do with every request: read its body, find its agent, and check who sent it."""

import asyncio

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from agentspec import DispatchMode
from agentspec.model import Model
from gateway.agents import Agent, InvalidAgent
from gateway.api.access import Client
from gateway.api.context import Gateway
from gateway.calls.request import MAX_BODY_BYTES, AgentRef
from gateway.errors import ErrorReason, RequestError

BODY_SECONDS = 10.0
"""Longest time in which a request body must arrive."""


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that serves a request."""
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


def answer(view: Model, status: int = 200) -> Response:
    """Return a response with a document, which no cache may store."""
    return JSONResponse(view.model_dump(mode="json", by_alias=True), status, headers={"Cache-Control": "no-store"})


async def json_body(request: Request) -> bytes:
    """Return the body of a request that says that it is JSON.

    Raises:
        RequestError: 408, 413 or 415; the body is too slow or too large, or of another type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = "The Content-Type is not supported. Send JSON with the header Content-Type: application/json."
        raise RequestError(415, ErrorReason.UNSUPPORTED_MEDIA_TYPE, message)
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    message = f"The body is larger than {MAX_BODY_BYTES} bytes. Send a smaller one."
                    raise RequestError(413, ErrorReason.BODY_TOO_LARGE, message)
    except TimeoutError as error:
        message = f"The body did not arrive within {BODY_SECONDS:.0f} s. Send the request again."
        raise RequestError(408, ErrorReason.BODY_TOO_SLOW, message) from error
    return body


def require_synced(gateway: Gateway) -> None:
    """Raise `RequestError` 503 while the gateway has not loaded the agents."""
    if not gateway.agents.synced:
        message = "The gateway is starting and has not loaded the agents yet. Try again in a second."
        raise RequestError(503, ErrorReason.NOT_READY, message, retry_after_seconds=1)


def find_agent(gateway: Gateway, wanted: str | AgentRef) -> Agent:
    """Return an agent by its name in the default namespace, or by both.

    Raises:
        RequestError: 404, 409 or 503; there is no such agent, its spec is not valid, or the gateway is starting.
    """
    require_synced(gateway)
    namespace = wanted.namespace if isinstance(wanted, AgentRef) else gateway.settings.default_namespace
    name = wanted.name if isinstance(wanted, AgentRef) else wanted
    found = gateway.agents.get(namespace, name)
    if found is None:
        elsewhere = isinstance(wanted, str) and any(agent.name == name for agent in gateway.agents.all())
        hint = (
            'Another namespace has an agent of this name. Send "agent": {"namespace": …, "name": …}.'
            if elsewhere
            else f"Run `kubectl get ava -n {namespace}` to list the agents."
        )
        message = f"The agent {name} does not exist in the namespace {namespace}. {hint}"
        raise RequestError(404, ErrorReason.AGENT_NOT_FOUND, message)
    if isinstance(found, InvalidAgent):
        message = f"The spec of the agent {name} is not valid for this release of the gateway. {found.error}."
        raise RequestError(409, ErrorReason.AGENT_INVALID, message)
    return found


def check_access(request: Request, agent: Agent) -> Client:
    """Return the client that sent a request for a call to an agent.

    Raises:
        RequestError: 401, 403, 409 or 429; the client may not call the agent now, or no client can.
    """
    client = gateway_of(request).access.check(agent, request.headers, request.client.host if request.client else "")
    if agent.spec.dispatch.mode is DispatchMode.AUTOMATIC:
        message = (
            f"The gateway opens no calls for the agent {agent.name}, because it joins every room by itself "
            "(dispatch.mode: Automatic). Set dispatch.mode: Explicit."
        )
        raise RequestError(409, ErrorReason.AGENT_AUTOMATIC, message)
    return client
