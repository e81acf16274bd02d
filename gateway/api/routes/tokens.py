"""LiveKit's own token endpoint, for apps that are made for LiveKit."""

from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from gateway.api.openapi import API_KEY_OR_ORIGIN, json_body_of, problems, resource
from gateway.api.requests import admit_chosen, answer, audit_refusals, gateway_of, json_body
from gateway.api.views import TokenView
from gateway.calls.request import parse_body
from gateway.calls.tokens import TokenRequest

_TOKEN_PROBLEMS = {
    400: "A field of the body is not valid, the agent does not serve such a room, or the request must name its agent.",
    401: "The request has no right to call such an agent, or there is none.",
    403: "The Public agent does not allow the page's origin.",
    404: "The key may call the agent, which does not exist.",
    409: "The agent takes no calls, or the room belongs to another agent.",
    429: "The address has sent too many requests.",
    502: "LiveKit rejected the agent's credentials.",
    503: "LiveKit is unreachable, the agent's credentials are missing, or the gateway is starting.",
}

router = resource("tokens")


@router.post(
    "/v1/token",
    status_code=201,
    response_model=TokenView,
    response_description="The token. Nothing is open until a caller joins with it.",
    responses=problems(_TOKEN_PROBLEMS, body=True),
    dependencies=[Depends(audit_refusals)],
    openapi_extra={**json_body_of(TokenRequest, required=False), **API_KEY_OR_ORIGIN},
)
async def issue_token(
    request: Request,
    agent: Annotated[
        str,
        Query(description="The agent, as NAME or NAMESPACE/NAME. Not needed when the request may call only one agent."),
    ] = "",
) -> Response:
    """Issue a token for LiveKit's clients.

    This is the endpoint for `TokenSource.endpoint`. The room, the call and its agent come into being when a caller
    joins with the token. A token is valid for 10 minutes.
    """
    body = await json_body(request)
    wanted = parse_body(TokenRequest, body or b"{}")
    found, client = await admit_chosen(request, agent, wanted.dispatch.agent_name or "")
    token = await gateway_of(request).tokens.issue(found, wanted, client)
    return answer(TokenView(server_url=found.spec.livekit.caller_url, participant_token=token), 201)
