"""What the routes do with every request: read its body, find its agent, and check who sent it."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from agentspec import DispatchMode
from agentspec.model import Model
from agentspec.wire import agent_key
from gateway.agents import Agent
from gateway.api import forwarding
from gateway.api.access import no_right
from gateway.api.context import Gateway
from gateway.api.forwarding import CLIENT_ADDRESS, is_internal
from gateway.calls import audit
from gateway.calls.request import MAX_BODY_BYTES, AgentRef
from gateway.client import Client
from gateway.cluster.members import shard_of
from gateway.errors import MISDIRECTED, ErrorReason, RequestError

_Result = TypeVar("_Result")

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
    return await body_of(request, "application/json", MAX_BODY_BYTES)


async def body_of(request: Request, media_type: str, max_bytes: int) -> bytes:
    """Return the body of a request that says that it is of a media type, a kind of JSON.

    Raises:
        RequestError: 408, 413 or 415; the body is too slow or too large, or of another type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != media_type:
        message = f"The Content-Type is not supported. Send JSON with the header Content-Type: {media_type}."
        raise RequestError(415, ErrorReason.UNSUPPORTED_MEDIA_TYPE, message)
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    message = f"The body is larger than {max_bytes} bytes. Send a smaller one."
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


async def audit_refusals(request: Request) -> AsyncIterator[None]:
    """Record a refused request in the audit log. A dependency of every route that opens calls."""
    request.state.agent = ""
    request.state.client = Client(address=address_of(request))
    try:
        yield
    except Exception as error:
        status, reason = (
            (error.status, error.reason) if isinstance(error, RequestError) else (500, ErrorReason.INTERNAL)
        )
        if status == MISDIRECTED:  # another gateway answers the client
            raise
        audit.record_refused(request.state.agent, request.state.client, status, reason)
        raise


async def admit(request: Request, wanted: str | AgentRef) -> tuple[Agent, Client]:
    """Return the agent that a request may call now, and the client that sent the request.

    Raises:
        RequestError: 401, 403, 404, 409, 429 or 503; the client may not call the agent now, or no client can.
    """
    gateway = gateway_of(request)
    require_synced(gateway)
    namespace, name = _reference(gateway, wanted)
    request.state.agent = agent_key(namespace, name)
    address = address_of(request)
    identity = await gateway.access.identify(request.headers, address)
    request.state.client = Client(key_id=identity.key_id if identity else "", address=address)
    agent, client = gateway.access.admit(identity, namespace, name, request.headers, address)
    if agent.spec.dispatch.mode is DispatchMode.AUTOMATIC:
        message = (
            f"The gateway opens no calls for the agent {agent.name}, because it joins every room by itself "
            "(dispatch.mode: Automatic). Set dispatch.mode: Explicit."
        )
        raise RequestError(409, ErrorReason.AGENT_AUTOMATIC, message)
    return agent, client


async def admit_chosen(request: Request, wanted: str, agent_name: str) -> tuple[Agent, Client]:
    """Return the agent that a request names, or the only one that its sender may call, and the client that sent it.

    ``wanted`` is ``name`` or ``namespace/name``, and ``agent_name`` is a name that workers register under. Both may be
    empty. An agent that the sender may not call is answered like one that does not exist.

    Raises:
        RequestError: 400, 401, 403, 404, 409, 429 or 503.
    """
    if not wanted:
        found = [agent for agent in await callable_agents(request) if agent_name in ("", agent.agent_name)]
        if len(found) > 1:
            message = "The request may call several agents. Name one with the parameter agent=NAMESPACE/NAME."
            raise RequestError(400, ErrorReason.INVALID_REQUEST, message, field="agent")
        if not found:
            raise no_right()
        wanted = found[0].key
    agent, client = await admit(request, agent_reference(wanted))
    if agent_name not in ("", agent.agent_name):
        raise no_right()
    return agent, client


async def only_callable(request: Request) -> str:
    """Return the key of the only agent that the sender of a request may call; empty: there is none, or several.

    Raises:
        RequestError: 401, 429 or 503.
    """
    found = await callable_agents(request)
    return found[0].key if len(found) == 1 else ""


async def callable_agents(request: Request) -> list[Agent]:
    """Return the agents that the sender of a request may call. No limit counts this.

    Raises:
        RequestError: 401, 429 or 503; the API key is not valid, or the gateway is starting.
    """
    gateway = gateway_of(request)
    require_synced(gateway)
    identity = await gateway.access.identify(request.headers, address_of(request))
    return gateway.access.callable(identity, request.headers)


async def key_agents(request: Request) -> list[Agent]:
    """Return the agents that the API key of a request may call.

    Raises:
        RequestError: 401, 429 or 503; there is no key or it is not valid, or the gateway is starting.
    """
    if "authorization" not in request.headers:
        raise RequestError(401, ErrorReason.UNAUTHORIZED, "Send `Authorization: Bearer <key>` with an API key.")
    return await callable_agents(request)


async def forwarded(request: Request, wanted: str | AgentRef, body: bytes) -> Response | None:
    """Return the answer of the gateway that owns the agent of a request; None: this gateway answers itself.

    Raises:
        RequestError: 421 or 503, no gateway answers for the agent now.
    """
    gateway = gateway_of(request)
    shard = shard_of(agent_key(*_reference(gateway, wanted)))
    return await gateway.forwarder.forward(request, shard, address_of(request), body)


async def at_owner(
    request: Request, wanted: str | AgentRef, body: bytes, attempt: Callable[[], Awaitable[_Result]]
) -> _Result | Response:
    """Return what an attempt returns, or the answer of another gateway that owns the agent of a request by now.

    An attempt that fails with 421 is repeated: its gateway did not act for the agent at that moment.

    Raises:
        RequestError: of the attempt; or 503, no gateway answers for the agent now.
    """
    deadline = math.inf
    while True:
        try:
            return await attempt()
        except RequestError as error:
            if error.status != MISDIRECTED:
                raise
            deadline = min(deadline, time.monotonic() + forwarding.FORWARD_SECONDS)
            if (answered := await forwarded(request, wanted, body)) is not None:
                return answered
            if time.monotonic() >= deadline:
                raise forwarding.unreachable() from error


def agent_reference(wanted: str) -> str | AgentRef:
    """Return the agent that ``NAME`` or ``NAMESPACE/NAME`` names."""
    namespace, _, name = wanted.rpartition("/")
    return AgentRef.model_construct(namespace=namespace, name=name) if namespace else name


async def visible_agent(request: Request, wanted: str | AgentRef) -> Agent:
    """Return an agent whose facts the sender of a request may read.

    Raises:
        RequestError: 401, 404, 409, 429 or 503.
    """
    gateway = gateway_of(request)
    require_synced(gateway)
    identity = await gateway.access.identify(request.headers, address_of(request))
    return gateway.access.visible(identity, *_reference(gateway, wanted))


def _reference(gateway: Gateway, wanted: str | AgentRef) -> tuple[str, str]:
    """Return namespace and name of the agent that a request names; a plain name is in the default namespace."""
    if isinstance(wanted, AgentRef):
        return wanted.namespace, wanted.name
    return gateway.settings.default_namespace, wanted


def address_of(request: Request) -> str:
    """Return the address of the client that sent a request, perhaps to another gateway."""
    if is_internal(request.scope, gateway_of(request).settings.internal_port):
        return request.headers.get(CLIENT_ADDRESS, "")
    return gateway_of(request).access.address(request.headers, request.client.host if request.client else "")
