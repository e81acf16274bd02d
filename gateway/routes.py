"""The HTTP surface: from requests to the opener and back. Every answer of the API is JSON, errors included."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from agentspec import DispatchAccess, DispatchMode
from agentspec.model import Model
from gateway.access import bearer_token, idempotency_key
from gateway.agents import Agent, InvalidAgent
from gateway.callrequest import MAX_BODY_BYTES, AgentRef, CallRequest, parse_request
from gateway.calls import Call, CallState
from gateway.connections import SecretError
from gateway.context import Gateway
from gateway.errors import ErrorReason, RequestError
from gateway.livekit import LiveKitError
from gateway.opening import RETRY_AFTER_SECONDS
from gateway.tokens import has_fingerprint, is_call_token
from gateway.views import AgentView, CallView, OpenedCallView, agent_view, call_view, opened_call_view

MAX_WAIT_SECONDS = 30.0
"""Longest that a question after a call is held open."""
BODY_SECONDS = 10.0
"""Longest that a body may take to arrive."""

router = APIRouter()


@router.post(
    "/v1/calls",
    status_code=201,
    responses={201: {"model": OpenedCallView}, 200: {"model": OpenedCallView}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": CallRequest.model_json_schema(by_alias=True)}},
        }
    },
)
async def open_call(request: Request) -> Response:
    """Open a call: 201 when this request made it, 200 when an equal one had."""
    gateway = _gateway(request)
    wanted = parse_request(await _json_body(request))
    agent = _agent(gateway, wanted.agent)
    caller = gateway.access.check(agent, request.headers, request.client.host if request.client else "")
    if agent.spec.dispatch.mode is DispatchMode.AUTOMATIC:
        message = (
            f"The agent {agent.name} joins every room by itself (dispatch.mode Automatic), so it takes no calls here: "
            "write dispatch.mode: Explicit."
        )
        raise RequestError(409, ErrorReason.AGENT_AUTOMATIC, message)
    opened = await gateway.opener.open(agent, wanted, caller.scope, idempotency_key(request.headers))
    position = gateway.ledger.position(opened.call)
    view = opened_call_view(opened.call, position, opened.connection, wanted.name)
    return _json(view, 201 if opened.created else 200)


@router.get("/v1/calls/{call_id}", response_model=CallView)
async def read_call(
    request: Request,
    call_id: str,
    state: CallState | None = None,
    wait_seconds: Annotated[float, Query(alias="waitSeconds", ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)] = 0,
) -> Response:
    """A call as it stands, or as soon as its state is another than ``state``."""
    gateway = _gateway(request)
    call = await _authorized_call(gateway, request, call_id)
    if state is not None and wait_seconds:
        await gateway.ledger.wait_for_change(call_id, state, wait_seconds)
        call = gateway.ledger.get(call_id) or call
    return _json(call_view(call, gateway.ledger.position(call)))


@router.delete("/v1/calls/{call_id}", response_model=CallView)
async def hang_up(request: Request, call_id: str) -> Response:
    """End a call; ending it again changes nothing."""
    gateway = _gateway(request)
    call = await _authorized_call(gateway, request, call_id)
    try:
        await gateway.dispatcher.hang_up(call)
    except (LiveKitError, SecretError) as error:
        message = "The room could not be closed because LiveKit does not answer: try again."
        raise RequestError(
            503, ErrorReason.LIVEKIT_UNREACHABLE, message, retry_after_seconds=RETRY_AFTER_SECONDS
        ) from error
    return _json(call_view(gateway.ledger.get(call_id) or call, None))


@router.get("/v1/agents/{name}", response_model=AgentView)
async def read_agent(request: Request, name: str) -> Response:
    """What the call page shows of a Public agent in the gateway's own namespace."""
    return _public_agent(request, name)


@router.get("/v1/agents/{namespace}/{name}", response_model=AgentView)
async def read_agent_in(request: Request, namespace: str, name: str) -> Response:
    """What the call page shows of a Public agent."""
    return _public_agent(request, AgentRef.model_construct(namespace=namespace, name=name))


def _public_agent(request: Request, wanted: str | AgentRef) -> Response:
    agent = _agent(_gateway(request), wanted)
    if agent.spec.dispatch.access is not DispatchAccess.PUBLIC:
        message = f"The agent {agent.name} is not Public: calls to it need an API key."
        raise RequestError(401, ErrorReason.UNAUTHORIZED, message)
    return _json(agent_view(agent))


@router.get("/", include_in_schema=False)
async def call_page(request: Request, agent: str = "") -> Response:
    """The call page. It says itself what is wrong with its agent, so that it always opens."""
    gateway = _gateway(request)
    namespace, _, name = agent.rpartition("/")
    found = gateway.agents.get(namespace or gateway.settings.default_namespace, name)
    # The page's headers name the agent's LiveKit server: only of agents that are open to everybody.
    public = isinstance(found, Agent) and found.spec.dispatch.access is DispatchAccess.PUBLIC
    return gateway.pages.page(found if isinstance(found, Agent) and public else None)


@router.get("/assets/{name}", include_in_schema=False)
async def asset(request: Request, name: str) -> Response:
    return _gateway(request).pages.asset(name)


@router.get("/readyz", include_in_schema=False)
async def readyz(request: Request) -> Response:
    """Whether calls can be taken, for whoever stands in front: a load balancer, or a port-forward to localhost.

    Kubernetes asks `gateway.probes` instead.
    """
    _require_synced(_gateway(request))
    return JSONResponse({"ready": True})


def _gateway(request: Request) -> Gateway:
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


def _json(view: Model, status: int = 200) -> Response:
    return JSONResponse(view.model_dump(mode="json", by_alias=True), status, headers={"Cache-Control": "no-store"})


async def _json_body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = "Send the request as JSON, with the header Content-Type: application/json."
        raise RequestError(415, ErrorReason.UNSUPPORTED_MEDIA_TYPE, message)
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    message = f"The body is larger than {MAX_BODY_BYTES} bytes: send less."
                    raise RequestError(413, ErrorReason.BODY_TOO_LARGE, message)
    except TimeoutError as error:
        message = f"The body did not arrive within {BODY_SECONDS:.0f} s: send it again."
        raise RequestError(408, ErrorReason.BODY_TOO_SLOW, message) from error
    return body


def _require_synced(gateway: Gateway) -> None:
    if not gateway.agents.synced:
        message = "The gateway has just started and does not know the agents yet: try again."
        raise RequestError(503, ErrorReason.NOT_READY, message, retry_after_seconds=1)


def _agent(gateway: Gateway, wanted: str | AgentRef) -> Agent:
    _require_synced(gateway)
    namespace = wanted.namespace if isinstance(wanted, AgentRef) else gateway.settings.default_namespace
    name = wanted.name if isinstance(wanted, AgentRef) else wanted
    found = gateway.agents.get(namespace, name)
    if found is None:
        elsewhere = isinstance(wanted, str) and any(agent.name == name for agent in gateway.agents.all())
        hint = (
            'one of this name exists in another namespace: write "agent": {"namespace": …, "name": …}'
            if elsewhere
            else "`kubectl get ava` lists the agents"
        )
        raise RequestError(404, ErrorReason.AGENT_NOT_FOUND, f"There is no agent {name} in {namespace}; {hint}.")
    if isinstance(found, InvalidAgent):
        message = f"The agent {name} is declared in a way this gateway does not understand: {found.problem}."
        raise RequestError(409, ErrorReason.AGENT_INVALID, message)
    return found


async def _authorized_call(gateway: Gateway, request: Request, call_id: str) -> Call:
    """The call, if the request carries its call token; one who has not been given it learns nothing."""
    call = gateway.ledger.get(call_id)
    token = bearer_token(request.headers)
    if call is not None and token:
        if has_fingerprint(token, call.call_token_hash):
            return call
        # A repeated request gets a token made with the key of that moment.
        connection = await gateway.opener.connect(call.agent)
        if is_call_token(connection.credentials, call_id, token):
            return call
    message = "No such call, or not yours: send `Authorization: Bearer <callToken>` of a call that has not long ended."
    raise RequestError(404, ErrorReason.CALL_NOT_FOUND, message)
