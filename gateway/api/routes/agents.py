"""Agents: what a caller may know about them."""

from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import Response

from gateway.api.openapi import API_KEY_OR_ORIGIN, API_KEY_OR_PUBLIC, problems, resource
from gateway.api.requests import answer, callable_agents, visible_agent
from gateway.api.views import AgentListView, AgentView, agent_view
from gateway.calls.request import AgentRef

_AGENT_PROBLEMS = {
    401: "The request has no right to read the agent, or the agent does not exist.",
    404: "The key may call the agent, which does not exist.",
    409: "The spec of the agent is not valid for this release of the gateway.",
    429: "The address has sent too many keys that are not valid.",
    503: "The gateway is starting, or the token's issuer is unreachable.",
}

_LIST_PROBLEMS = {
    401: "The API key is not valid.",
    429: "The address has sent too many keys that are not valid.",
    503: "The gateway is starting.",
}

Namespace = Annotated[str, Path(description="Namespace of the AvatarAgent.")]
Name = Annotated[str, Path(description="Name of the AvatarAgent.")]

router = resource("agents")


@router.get(
    "/v1/agents",
    response_model=AgentListView,
    response_description="The agents.",
    responses=problems(_LIST_PROBLEMS),
    openapi_extra=API_KEY_OR_ORIGIN,
)
async def list_agents(request: Request) -> Response:
    """List the agents that the sender of the request may call."""
    agents = sorted(await callable_agents(request), key=lambda agent: agent.key)
    return answer(AgentListView(agents=[agent_view(agent) for agent in agents]))


@router.get(
    "/v1/agents/{name}",
    response_model=AgentView,
    response_description="The agent.",
    responses=problems(_AGENT_PROBLEMS),
    openapi_extra=API_KEY_OR_PUBLIC,
)
async def read_agent(request: Request, name: Name) -> Response:
    """Read an agent in the gateway's default namespace: a Public one, or with an API key one that the key may call."""
    return answer(agent_view(await visible_agent(request, name)))


@router.get(
    "/v1/agents/{namespace}/{name}",
    response_model=AgentView,
    response_description="The agent.",
    responses=problems(_AGENT_PROBLEMS),
    openapi_extra=API_KEY_OR_PUBLIC,
)
async def read_agent_in_namespace(request: Request, namespace: Namespace, name: Name) -> Response:
    """Read an agent in any namespace: a Public one, or with an API key one that the key may call."""
    wanted = AgentRef.model_construct(namespace=namespace, name=name)
    return answer(agent_view(await visible_agent(request, wanted)))
