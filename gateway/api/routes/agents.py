"""Agents: what a caller may know about them."""

from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import Response

from agentspec import DispatchAccess
from gateway.api.openapi import problems, resource
from gateway.api.requests import answer, find_agent, gateway_of
from gateway.api.views import AgentView, agent_view
from gateway.calls.request import AgentRef
from gateway.errors import ErrorReason, RequestError

_AGENT_PROBLEMS = {
    401: "The agent is not Public.",
    404: "The agent does not exist.",
    409: "The spec of the agent is not valid for this release of the gateway.",
    503: "The gateway is starting.",
}

Namespace = Annotated[str, Path(description="Namespace of the AvatarAgent.")]
Name = Annotated[str, Path(description="Name of the AvatarAgent.")]

router = resource("agents")


@router.get(
    "/v1/agents/{name}",
    response_model=AgentView,
    response_description="The agent.",
    responses=problems(_AGENT_PROBLEMS),
)
async def read_agent(request: Request, name: Name) -> Response:
    """Read a Public agent in the gateway's default namespace."""
    return _public_agent(request, name)


@router.get(
    "/v1/agents/{namespace}/{name}",
    response_model=AgentView,
    response_description="The agent.",
    responses=problems(_AGENT_PROBLEMS),
)
async def read_agent_in_namespace(request: Request, namespace: Namespace, name: Name) -> Response:
    """Read a Public agent in any namespace."""
    return _public_agent(request, AgentRef.model_construct(namespace=namespace, name=name))


def _public_agent(request: Request, wanted: str | AgentRef) -> Response:
    agent = find_agent(gateway_of(request), wanted)
    if agent.spec.dispatch.access is not DispatchAccess.PUBLIC:
        message = f"The agent {agent.name} is not Public. Open calls to it with an API key."
        raise RequestError(401, ErrorReason.UNAUTHORIZED, message)
    return answer(agent_view(agent))
