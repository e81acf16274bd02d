"""What the API answers."""

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from agentspec import DispatchAccess
from agentspec.model import Model
from gateway.agents import Agent
from gateway.calls import Call, CallReason, CallState
from gateway.connections import Connection
from gateway.tokens import call_token, join_token


class View(Model):
    """A document of the HTTP API, whose field names are plain camelCase: ``callId``."""

    model_config = ConfigDict(alias_generator=to_camel)


class AgentIdentity(View):
    namespace: str
    name: str
    agent_name: str = Field(description="Name that its workers register under at LiveKit.")


class CallView(View):
    """A call as it stands."""

    call_id: str
    room: str
    identity: str = Field(description="Identity of the caller in the room.")
    agent: AgentIdentity
    state: CallState
    position: int | None = Field(default=None, description="Place in line while waiting, counted from 1.")
    reason: CallReason = Field(description="Why it failed or ended; empty before.")
    message: str = Field(description="The same for a person.")
    join_timeout_seconds: int = Field(description="Seconds in which a dispatched agent joins, or is dispatched again.")


class OpenedCallView(CallView):
    """The answer to a request for a call: all that is needed to take part in it."""

    url: str = Field(description="LiveKit WebSocket URL to connect to.")
    token: str = Field(description="LiveKit token of the caller; connect within a minute, or the call is given up.")
    call_token: str = Field(description="Bearer token for GET and DELETE of this call.")


class AgentView(View):
    """What a page may know of a Public agent before the call."""

    namespace: str
    name: str
    language: str
    access: DispatchAccess
    ready: bool


def call_view(call: Call, position: int | None) -> CallView:
    return CallView(
        call_id=call.id,
        room=call.room,
        identity=call.identity,
        agent=AgentIdentity(namespace=call.agent.namespace, name=call.agent.name, agent_name=call.agent_name),
        state=call.state,
        position=position,
        reason=call.reason,
        message=call.message,
        join_timeout_seconds=call.agent.spec.dispatch.join_timeout_seconds,
    )


def opened_call_view(call: Call, position: int | None, connection: Connection, caller_name: str) -> OpenedCallView:
    credentials = connection.credentials
    return OpenedCallView(
        **dict(call_view(call, position)),
        url=call.agent.spec.livekit.url,
        token=join_token(credentials, room=call.room, identity=call.identity, name=caller_name),
        call_token=call_token(credentials, call.id),
    )


def agent_view(agent: Agent) -> AgentView:
    return AgentView(
        namespace=agent.namespace,
        name=agent.name,
        language=agent.spec.language,
        access=agent.spec.dispatch.access,
        ready=agent.ready,
    )
