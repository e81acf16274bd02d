"""Dispatches to rooms that a page or a back end made by itself."""

from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from gateway.api.openapi import API_KEY_OR_ORIGIN, json_body_of, problems, resource
from gateway.api.requests import (
    admit_chosen,
    agent_reference,
    answer,
    at_owner,
    audit_refusals,
    forwarded,
    gateway_of,
    json_body,
    only_callable,
)
from gateway.api.views import DispatchView
from gateway.calls.foreign import DispatchRequest
from gateway.calls.request import parse_body
from gateway.errors import RequestError

_DISPATCH_PROBLEMS = {
    400: "A field of the body is not valid, the agent does not serve the room, or the request must name its agent.",
    401: "The request has no right to call such an agent, or there is none.",
    403: "The Public agent does not allow the page's origin.",
    404: "The room does not exist, or the key may call the agent, which does not exist.",
    409: "The agent takes no calls, or the room is a call of the gateway.",
    429: "The address has sent too many requests.",
    502: "LiveKit rejected the agent's credentials.",
    503: "The agent did not join in time: all agents are busy, no worker accepted, or the worker failed. Or LiveKit is "
    "unreachable, the agent's credentials are missing, or the gateway is starting.",
}

router = resource("dispatches")


@router.post(
    "/api/dispatch-agent",
    response_model=DispatchView,
    response_description="The agent has joined the room.",
    responses=problems(_DISPATCH_PROBLEMS, body=True),
    dependencies=[Depends(audit_refusals)],
    openapi_extra={**json_body_of(DispatchRequest), **API_KEY_OR_ORIGIN},
)
async def dispatch_agent(
    request: Request,
    agent: Annotated[
        str, Query(description="The agent, as NAME or NAMESPACE/NAME, for requests whose body does not name it.")
    ] = "",
) -> Response:
    """Dispatch an agent to a room that exists, and wait until it has joined.

    An agent that is in the room already is not dispatched again. Problem documents have `success: false` and `message`
    in addition.
    """
    try:
        body = await json_body(request)
        wanted = parse_body(DispatchRequest, body)
        named = wanted.agent or agent or await only_callable(request)
        if named and (answered := await forwarded(request, agent_reference(named), body)) is not None:
            return answered
        found, client = await admit_chosen(request, named, "")
        rooms = gateway_of(request).rooms
        joined = await at_owner(
            request, agent_reference(found.key), body, lambda: rooms.dispatch(found, wanted, client)
        )
    except RequestError as error:
        error.extension = {"success": False, "message": error.message}
        raise
    return joined if isinstance(joined, Response) else answer(DispatchView(dispatch_id=joined))
