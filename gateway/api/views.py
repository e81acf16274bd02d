"""The response documents of the HTTP API."""

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from agentspec import DispatchAccess
from agentspec.model import Model
from gateway.agents import Agent
from gateway.calls.call import Call, CallReason, CallState
from gateway.errors import ErrorReason
from gateway.livekit.connections import Connection
from gateway.livekit.tokens import call_token, join_token


class View(Model):
    """A response document. Its field names are plain camelCase, such as ``callId``."""

    model_config = ConfigDict(alias_generator=to_camel)


class Problem(View):
    """The response to a request that failed: a problem document (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Identifies the problem type: a tag that ends with the reason.")
    title: str = Field(description="The problem type in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened and what to do.")
    reason: ErrorReason = Field(description="Constant reason; match on it.")
    field: str = Field(default="", description="Dotted path of the wrong field or parameter, if there is one.")


class AgentIdentity(View):
    """The agent of a call."""

    namespace: str = Field(description="Namespace of the AvatarAgent.")
    name: str = Field(description="Name of the AvatarAgent.")
    agent_name: str = Field(description="Name under which the agent's workers register with LiveKit.")


class CallView(View):
    """The current state of a call."""

    call_id: str = Field(description="Id of the call.")
    room: str = Field(description="LiveKit room of the call.")
    identity: str = Field(description="Identity of the caller in the room.")
    agent: AgentIdentity
    state: CallState = Field(
        description="waiting: for a free slot; dispatched: the agent is on its way; joined: the agent is in the room; "
        "failed: no agent joined, or the agent was lost; ended: the call is over."
    )
    position: int | None = Field(default=None, description="Position in the queue, from 1; null unless waiting.")
    estimated_wait_seconds: int | None = Field(
        default=None,
        description="About how long the call still waits, from its position and the lengths of recent calls; null "
        "unless waiting, or when too little is known.",
    )
    reason: CallReason = Field(description="Why the call failed or ended; empty while it is live.")
    message: str = Field(description="The reason in words, and what to do; empty while the call is live.")
    join_timeout_seconds: int = Field(
        description="Seconds in which a dispatched agent must join; after that the gateway dispatches it once more."
    )


class CallListView(View):
    """Calls that are not over."""

    calls: list[CallView] = Field(description="The calls, by agent.")


class OpenedCallView(CallView):
    """An opened call, with everything that the caller's client needs to take part in it."""

    url: str = Field(description="LiveKit WebSocket URL to connect to.")
    token: str = Field(description="The caller's LiveKit token. The call ends unless the caller connects in a minute.")
    call_token: str = Field(description="Bearer token for GET and DELETE of this call.")


class TokenView(Model):
    """A token, in the form that LiveKit's clients read."""

    model_config = ConfigDict(alias_generator=None)

    server_url: str = Field(description="LiveKit WebSocket URL to connect to.")
    participant_token: str = Field(description="The caller's LiveKit token. LiveKit's clients use it for 9 minutes.")


class DispatchView(View):
    """A dispatched agent that has joined."""

    success: Literal[True] = Field(default=True, description="Always true; a problem document has false.")
    dispatch_id: str = Field(description="LiveKit's id of the dispatch.")


class AgentView(View):
    """The public facts about a Public agent."""

    namespace: str = Field(description="Namespace of the AvatarAgent.")
    name: str = Field(description="Name of the AvatarAgent.")
    language: str = Field(description="The agent's language, as a BCP 47 tag.")
    languages: list[str] = Field(description="Other languages that a call may ask for, as BCP 47 tags.")
    access: DispatchAccess = Field(description="Who may call the agent.")
    ready: bool = Field(description="The condition Ready of the AvatarAgent is True.")


class AgentListView(View):
    """Agents."""

    agents: list[AgentView] = Field(description="The agents, by namespace and name.")


def call_view(call: Call, position: int | None, wait: int | None) -> CallView:
    """Return the view of a call; ``position`` is its place in the queue, and ``wait`` the estimated seconds."""
    return CallView(
        call_id=call.id,
        room=call.room,
        identity=call.identity,
        agent=AgentIdentity(namespace=call.agent.namespace, name=call.agent.name, agent_name=call.agent_name),
        state=call.state,
        position=position,
        estimated_wait_seconds=wait,
        reason=call.reason,
        message=call.message,
        join_timeout_seconds=call.agent.spec.dispatch.join_timeout_seconds,
    )


def opened_call_view(view: CallView, call: Call, connection: Connection, caller_name: str) -> OpenedCallView:
    """Return the view of an opened call, with new tokens for the caller."""
    credentials = connection.credentials
    return OpenedCallView(
        **dict(view),
        url=call.agent.spec.livekit.caller_url,
        token=join_token(credentials, room=call.room, identity=call.identity, name=caller_name),
        call_token=call_token(credentials, call.id),
    )


def agent_view(agent: Agent) -> AgentView:
    """Return the view of an agent."""
    return AgentView(
        namespace=agent.namespace,
        name=agent.name,
        language=agent.spec.language,
        languages=agent.spec.languages,
        access=agent.spec.dispatch.access,
        ready=agent.ready,
    )
