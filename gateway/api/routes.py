"""The HTTP API and the call page. Every API response is JSON, errors included."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer

from agentspec import DispatchAccess, DispatchMode
from agentspec.model import Model
from gateway.agents import Agent, InvalidAgent
from gateway.api.access import bearer_token, idempotency_key
from gateway.api.context import Gateway
from gateway.api.views import AgentView, CallView, ErrorView, OpenedCallView, agent_view, call_view, opened_call_view
from gateway.calls.call import Call, CallState
from gateway.calls.opening import RETRY_AFTER_SECONDS
from gateway.calls.request import MAX_BODY_BYTES, AgentRef, CallRequest, parse_request
from gateway.errors import ErrorReason, RequestError
from gateway.livekit.connections import SecretError
from gateway.livekit.server import LiveKitError
from gateway.livekit.tokens import has_fingerprint, is_call_token

MAX_WAIT_SECONDS = 30.0
"""Longest time that a request for a call's state is held open."""
BODY_SECONDS = 10.0
"""Longest time in which a request body must arrive."""

_AGENT_ERRORS = {
    401: "The agent is not Public.",
    404: "The agent does not exist.",
    409: "The spec of the agent is not valid for this release of the gateway.",
    503: "The gateway is starting.",
}
_CALL_ERRORS = {
    404: "The call does not exist, or the call token belongs to another call.",
    503: "LiveKit is unreachable, or the agent's credentials are missing.",
}
_OPEN_ERRORS = {
    400: "A field of the body or the Idempotency-Key is not valid.",
    401: "The API key is missing or not valid.",
    403: "The Public agent does not allow the page's origin.",
    404: "The agent does not exist.",
    409: "The agent takes no calls, or the Idempotency-Key belongs to another request or to a call that is over.",
    429: "The address has opened too many calls, or too many calls wait for the agent.",
    502: "LiveKit rejected the agent's credentials or the request.",
    503: "LiveKit is unreachable, the agent's credentials are missing, or the gateway is starting.",
}


def _errors(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of an operation for OpenAPI."""
    listed = {str(status): text for status, text in descriptions.items()} | {"default": "Any other error."}
    return {status: {"model": ErrorView, "description": text} for status, text in listed.items()}


CallId = Annotated[str, Path(description="Id of the call.")]
Namespace = Annotated[str, Path(description="Namespace of the AvatarAgent.")]
Name = Annotated[str, Path(description="Name of the AvatarAgent.")]
# Only for OpenAPI: `gateway.api.access` checks API keys, and `_authorized_call` checks call tokens.
_API_KEY = HTTPBearer(scheme_name="apiKey", description="An API key. Not required for Public agents.", auto_error=False)
_CALL_TOKEN = HTTPBearer(scheme_name="callToken", description="The `callToken` of the call.", auto_error=False)

router = APIRouter()


@router.post(
    "/v1/calls",
    status_code=201,
    responses={
        201: {"model": OpenedCallView, "description": "This request opened the call."},
        200: {
            "model": OpenedCallView,
            "description": "An equal request with the same Idempotency-Key opened the call.",
        },
        **_errors(_OPEN_ERRORS),
    },
    dependencies=[Depends(_API_KEY)],
    openapi_extra={
        "parameters": [
            {
                "in": "header",
                "name": "Idempotency-Key",
                "description": "Requests with the same key get the same call. 16 to 128 visible ASCII characters, for "
                "example a UUID.",
                "schema": {"type": "string"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": CallRequest.model_json_schema(by_alias=True)}},
        },
    },
)
async def open_call(request: Request) -> Response:
    """Open a call to an agent.

    The room exists when the response arrives. Connect to it with `url` and `token` at once. Repeat a request with the
    same Idempotency-Key to get the same call.
    """
    gateway = _gateway(request)
    wanted = parse_request(await _json_body(request))
    agent = _agent(gateway, wanted.agent)
    client = gateway.access.check(agent, request.headers, request.client.host if request.client else "")
    if agent.spec.dispatch.mode is DispatchMode.AUTOMATIC:
        message = (
            f"The gateway opens no calls for the agent {agent.name}, because it joins every room by itself "
            "(dispatch.mode: Automatic). Set dispatch.mode: Explicit."
        )
        raise RequestError(409, ErrorReason.AGENT_AUTOMATIC, message)
    opened = await gateway.opener.open(agent, wanted, client.scope, idempotency_key(request.headers))
    position = gateway.ledger.position(opened.call)
    view = opened_call_view(opened.call, position, opened.connection, wanted.name)
    return _json(view, 201 if opened.created else 200)


@router.get(
    "/v1/calls/{call_id}",
    response_model=CallView,
    response_description="The call.",
    responses=_errors({400: "A parameter is not valid."} | _CALL_ERRORS),
    dependencies=[Depends(_CALL_TOKEN)],
)
async def read_call(
    request: Request,
    call_id: CallId,
    state: Annotated[CallState | None, Query(description="The state that the client already knows.")] = None,
    wait_seconds: Annotated[
        float,
        Query(
            alias="waitSeconds",
            ge=0,
            le=MAX_WAIT_SECONDS,
            allow_inf_nan=False,
            description="Wait up to this many seconds for a state other than `state`.",
        ),
    ] = 0,
) -> Response:
    """Read a call. With `state` and `waitSeconds`, the response waits for a change of state."""
    gateway = _gateway(request)
    call = await _authorized_call(gateway, request, call_id)
    if state is not None and wait_seconds:
        await gateway.ledger.wait_for_change(call_id, state, wait_seconds)
        call = gateway.ledger.get(call_id) or call
    return _json(call_view(call, gateway.ledger.position(call)))


@router.delete(
    "/v1/calls/{call_id}",
    response_model=CallView,
    response_description="The ended call.",
    responses=_errors(_CALL_ERRORS),
    dependencies=[Depends(_CALL_TOKEN)],
)
async def hang_up(request: Request, call_id: CallId) -> Response:
    """End a call. Ending it again has no effect."""
    gateway = _gateway(request)
    call = await _authorized_call(gateway, request, call_id)
    try:
        await gateway.dispatcher.hang_up(call)
    except (LiveKitError, SecretError) as error:
        message = "The gateway could not close the room because LiveKit is unreachable. Try again."
        raise RequestError(
            503, ErrorReason.LIVEKIT_UNREACHABLE, message, retry_after_seconds=RETRY_AFTER_SECONDS
        ) from error
    return _json(call_view(gateway.ledger.get(call_id) or call, None))


@router.get(
    "/v1/agents/{name}",
    response_model=AgentView,
    response_description="The agent.",
    responses=_errors(_AGENT_ERRORS),
)
async def read_agent(request: Request, name: Name) -> Response:
    """Read a Public agent in the gateway's default namespace."""
    return _public_agent(request, name)


@router.get(
    "/v1/agents/{namespace}/{name}",
    response_model=AgentView,
    response_description="The agent.",
    responses=_errors(_AGENT_ERRORS),
)
async def read_agent_in_namespace(request: Request, namespace: Namespace, name: Name) -> Response:
    """Read a Public agent in any namespace."""
    return _public_agent(request, AgentRef.model_construct(namespace=namespace, name=name))


def _public_agent(request: Request, wanted: str | AgentRef) -> Response:
    agent = _agent(_gateway(request), wanted)
    if agent.spec.dispatch.access is not DispatchAccess.PUBLIC:
        message = f"The agent {agent.name} is not Public. Open calls to it with an API key."
        raise RequestError(401, ErrorReason.UNAUTHORIZED, message)
    return _json(agent_view(agent))


@router.get("/", include_in_schema=False)
async def call_page(request: Request, agent: str = "") -> Response:
    """Serve the call page. It always loads; errors about the agent appear on the page."""
    gateway = _gateway(request)
    namespace, _, name = agent.rpartition("/")
    found = gateway.agents.get(namespace or gateway.settings.default_namespace, name)
    # The page's headers contain the URL of the agent's LiveKit server. Only Public agents may reveal it.
    public = isinstance(found, Agent) and found.spec.dispatch.access is DispatchAccess.PUBLIC
    return gateway.pages.page(found if isinstance(found, Agent) and public else None)


@router.get("/assets/{name}", include_in_schema=False)
async def asset(request: Request, name: str) -> Response:
    """Serve a file of the call page."""
    return _gateway(request).pages.asset(name)


@router.get("/readyz", include_in_schema=False)
async def readyz(request: Request) -> Response:
    """Report whether the gateway takes calls, for a load balancer or a port-forward in front of it.

    Kubernetes asks the probe port instead (`process.health`).
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


def _require_synced(gateway: Gateway) -> None:
    if not gateway.agents.synced:
        message = "The gateway is starting and has not loaded the agents yet. Try again in a second."
        raise RequestError(503, ErrorReason.NOT_READY, message, retry_after_seconds=1)


def _agent(gateway: Gateway, wanted: str | AgentRef) -> Agent:
    _require_synced(gateway)
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


async def _authorized_call(gateway: Gateway, request: Request, call_id: str) -> Call:
    """Return the call if the request carries its call token; otherwise answer as if the call did not exist."""
    call = gateway.ledger.get(call_id)
    token = bearer_token(request.headers)
    if call is not None and token:
        if has_fingerprint(token, call.call_token_hash):
            return call
        # After a key rotation, a repeated request gets a token made with the new key.
        connection = await gateway.opener.connect(call.agent)
        if is_call_token(connection.credentials, call_id, token):
            return call
    message = (
        "The call does not exist, or the call token belongs to another call. Send `Authorization: Bearer <callToken>` "
        "with the token of this call. Calls are removed 10 minutes after they end."
    )
    raise RequestError(404, ErrorReason.CALL_NOT_FOUND, message)
