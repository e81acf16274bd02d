"""Calls: open, read and end."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from fastapi.responses import Response

from agentspec.wire import agent_key, read, valid_traceparent
from gateway.api.access import bearer_token, idempotency_key
from gateway.api.context import Gateway
from gateway.api.events import EventStream, stream
from gateway.api.openapi import API_KEY, API_KEY_OR_ORIGIN, CALL_TOKEN, REFERENCE, json_body_of, problems, resource
from gateway.api.requests import (
    address_of,
    admit,
    answer,
    at_owner,
    audit_refusals,
    forwarded,
    gateway_of,
    json_body,
    key_agents,
)
from gateway.api.views import CallListView, CallView, OpenedCallView, call_view, opened_call_view
from gateway.calls.call import Call, CallState
from gateway.calls.failures import RETRY_AFTER_SECONDS
from gateway.calls.ids import shard_of_call
from gateway.calls.opening import OpenedCall
from gateway.calls.request import CallRequest, parse_request
from gateway.errors import ErrorReason, RequestError
from gateway.livekit.connections import SecretError
from gateway.livekit.server import LiveKitError
from gateway.livekit.tokens import has_fingerprint, is_call_token

MAX_WAIT_SECONDS = 30.0
"""Longest time that a request for a call's state is held open."""

_CALL_PROBLEMS = {
    404: "The call does not exist, or the call token belongs to another call.",
    503: "LiveKit is unreachable, or the agent's credentials are missing.",
}
_OPEN_PROBLEMS = {
    400: "A field of the body or the Idempotency-Key is not valid.",
    401: "The request has no right to call the agent, or the agent does not exist.",
    403: "The Public agent does not allow the page's origin.",
    404: "The key may call the agent, which does not exist.",
    409: "The agent takes no calls, or the Idempotency-Key belongs to another request or to a call that is over.",
    429: "Too many calls from the address, with the key or to the agent, or too many calls wait for the agent.",
    502: "LiveKit rejected the agent's credentials or the request.",
    503: "LiveKit or the token's issuer is unreachable, the credentials are missing, or the gateway is starting.",
}
_LIST_PROBLEMS = {
    401: "The API key is missing or not valid.",
    429: "The address has sent too many keys that are not valid.",
    503: "The gateway is starting.",
}
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"const": "call"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": f"{REFERENCE}CallView"},
        },
    },
}
_IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "Requests with the same key get the same call. 16 to 128 visible ASCII characters, for example a "
    "UUID.",
    "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{16,128}$"},
}

_TRACEPARENT = {
    "in": "header",
    "name": "traceparent",
    "description": "Trace context (W3C) of the request. The traces of the call become a part of it. An invalid one is "
    "ignored.",
    "schema": {"type": "string"},
}

CallId = Annotated[str, Path(description="Id of the call.")]

router = resource("calls")


@router.post(
    "/v1/calls",
    status_code=201,
    responses={
        201: {"model": OpenedCallView, "description": "This request opened the call."},
        200: {
            "model": OpenedCallView,
            "description": "An equal request with the same Idempotency-Key opened the call.",
        },
        **problems(_OPEN_PROBLEMS, body=True),
    },
    dependencies=[Depends(audit_refusals)],
    openapi_extra={"parameters": [_IDEMPOTENCY_KEY, _TRACEPARENT], **json_body_of(CallRequest), **API_KEY_OR_ORIGIN},
)
async def open_call(request: Request) -> Response:
    """Open a call to an agent.

    The room exists when the response arrives. Connect to it with `url` and `token` at once. Repeat a request with the
    same Idempotency-Key to get the same call.
    """
    gateway = gateway_of(request)
    body = await json_body(request)
    wanted = parse_request(body)
    if (forwarded_answer := await forwarded(request, wanted.agent, body)) is not None:
        return forwarded_answer
    agent, client = await admit(request, wanted.agent)

    async def attempt() -> OpenedCall:
        return await gateway.opener.open(
            agent,
            wanted,
            client,
            idempotency_key(request.headers),
            traceparent=valid_traceparent(request.headers.get("traceparent", "")),
        )

    opened = await at_owner(request, wanted.agent, body, attempt)
    if isinstance(opened, Response):
        return opened
    view = opened_call_view(_view(gateway, opened.call), opened.call, opened.connection, wanted.name)
    return answer(view, 201 if opened.created else 200)


@router.get(
    "/v1/calls",
    response_model=CallListView,
    response_description="The calls.",
    responses=problems(_LIST_PROBLEMS),
    openapi_extra=API_KEY,
)
async def list_calls(request: Request) -> Response:
    """List the calls that are not over, of all agents that the API key may call."""
    gateway = gateway_of(request)
    agents = sorted({agent.key for agent in await key_agents(request)})
    own = CallListView(calls=[_view(gateway, call) for key in agents for call in gateway.ledger.of_agent(key)])
    others = [read(CallListView, text) for text in await gateway.forwarder.ask_others(request, address_of(request))]
    calls = [call for listed in (own, *others) for call in listed.calls]
    return answer(CallListView(calls=sorted(calls, key=lambda call: agent_key(call.agent.namespace, call.agent.name))))


@router.get(
    "/v1/calls/{call_id}",
    response_model=CallView,
    response_description="The call.",
    responses=problems({400: "A parameter is not valid."} | _CALL_PROBLEMS),
    openapi_extra=CALL_TOKEN,
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
    gateway = gateway_of(request)
    if (forwarded_answer := await _forwarded(gateway, request, call_id)) is not None:
        return forwarded_answer
    call = await _authorized_call(gateway, request, call_id)
    if state is not None and wait_seconds:
        await gateway.ledger.wait_for_change(call_id, state, wait_seconds)
        call = gateway.ledger.get(call_id) or call
    return answer(_view(gateway, call))


@router.get(
    "/v1/calls/{call_id}/events",
    response_class=EventStream,
    response_description="Events `call`, each with the call as JSON, until the call is over. A stream lasts 5 minutes "
    "at most; then open the next one.",
    responses={200: {"content": {EventStream.media_type: {"schema": _EVENT}}}, **problems(_CALL_PROBLEMS)},
    openapi_extra=CALL_TOKEN,
)
async def follow_call(request: Request, call_id: CallId) -> Response:
    """Follow a call by server-sent events: its present state, and each change at once."""
    gateway = gateway_of(request)
    if (forwarded_answer := await _forwarded(gateway, request, call_id)) is not None:
        return forwarded_answer
    await _authorized_call(gateway, request, call_id)

    def view() -> CallView | None:
        found = gateway.ledger.get(call_id)
        return None if found is None else _view(gateway, found)

    return stream(gateway.ledger, view, gateway.closing)


@router.delete(
    "/v1/calls/{call_id}",
    response_model=CallView,
    response_description="The ended call.",
    responses=problems(_CALL_PROBLEMS),
    openapi_extra=CALL_TOKEN,
)
async def hang_up(request: Request, call_id: CallId) -> Response:
    """End a call. Ending it again has no effect."""
    gateway = gateway_of(request)
    if (forwarded_answer := await _forwarded(gateway, request, call_id)) is not None:
        return forwarded_answer
    call = await _authorized_call(gateway, request, call_id)
    try:
        await gateway.dispatcher.hang_up(call)
    except (LiveKitError, SecretError) as error:
        message = "The gateway could not close the room because LiveKit is unreachable. Try again."
        raise RequestError(
            503, ErrorReason.LIVEKIT_UNREACHABLE, message, retry_after_seconds=RETRY_AFTER_SECONDS
        ) from error
    return answer(_view(gateway, gateway.ledger.get(call_id) or call))


def _view(gateway: Gateway, call: Call) -> CallView:
    return call_view(call, gateway.ledger.position(call), gateway.dispatcher.estimated_wait_seconds(call))


async def _forwarded(gateway: Gateway, request: Request, call_id: str) -> Response | None:
    """Return the answer of the gateway that follows a call; None: this gateway does, or did until the call ended."""
    known = gateway.ledger.get(call_id)
    if known is not None and not known.is_live:
        return None
    answered = await gateway.forwarder.forward(request, shard_of_call(call_id), address_of(request))
    if answered is None and known is None:
        await gateway.opener.wait_for_adoption(call_id)
    return answered


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
