"""Tokens of LiveKit's token endpoint. A token opens nothing: its room and dispatch come into being when a caller joins.

The body and the answer are those of `livekit_token_source.proto` in livekit/protocol, so that LiveKit's own clients
(``TokenSource.endpoint``) work unchanged. The room that the token makes has a room record, so that a gateway finds it
and follows its call.
"""

import hashlib
import logging
import time
from typing import Annotated

from livekit import api
from pydantic import BaseModel, ConfigDict, Field, field_validator

from agentspec.roompattern import MAX_ROOM_NAME_BYTES, RoomPatternInvalid, compile_pattern, room_name
from agentspec.wire import DispatchMetadata, RoomRecord, read_dispatch_metadata, read_room_record, render
from gateway.agents import Agent
from gateway.calls.call import MESSAGES
from gateway.calls.dispatcher import Dispatcher
from gateway.calls.failures import connect, livekit_failures
from gateway.calls.ids import new_call_id
from gateway.calls.request import printable
from gateway.calls.step import Admission, unavailable_reason
from gateway.client import PUBLIC_SCOPE, Client
from gateway.errors import ErrorReason, RequestError
from gateway.livekit.connections import Connection, Connections
from gateway.livekit.server import DEPARTURE_SECONDS, EMPTY_ROOM_SECONDS, MAX_PARTICIPANTS, WAITING_AGENT_NAME
from gateway.livekit.tokens import call_token, fingerprint, room_token

MAX_TOKEN_LENGTH = 7680
"""LiveKit's clients send the token in the URL of a WebSocket. Proxies accept 8 KiB for it, and often no more."""
MAX_ATTRIBUTES = 16
RESERVED_ATTRIBUTES = ("lk.", "sip.", "avatar-agent.")
"""Beginnings of the attributes that LiveKit's own services and workers set, and that agents trust."""

logger = logging.getLogger(__name__)


class _Body(BaseModel):
    """A part of the body. Fields of newer clients are ignored, and null is an absent field."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


class AgentDispatch(_Body):
    """The agent that the caller wants."""

    agent_name: str | None = Field(
        default=None, max_length=253, description="Agent name, under which the agent's workers register."
    )
    metadata: str | None = Field(
        default=None, max_length=8192, description="Dispatch metadata: facts about the call for the agent."
    )


class RoomConfig(_Body):
    """The room that the caller wants. Only its agent is the caller's choice; the gateway sets all limits."""

    agents: list[AgentDispatch] | None = Field(default=None, description="One agent, or none: the only one.")


class TokenRequest(_Body):
    """A request for a token, as LiveKit's clients send it. Every field is optional."""

    room_name: str | None = Field(
        default=None,
        max_length=200,
        description="Name of the room. Without an API key, the gateway appends the call's id, so that nobody can enter "
        "another caller's room.",
    )
    participant_name: str | None = Field(default=None, max_length=64, description="The caller's name in the room.")
    participant_identity: str | None = Field(
        default=None, max_length=128, description="The caller's identity in the room. Without one, it is random."
    )
    participant_metadata: str | None = Field(default=None, max_length=2048, description="Metadata of the caller.")
    participant_attributes: dict[str, Annotated[str, Field(max_length=256)]] | None = Field(
        default=None, max_length=MAX_ATTRIBUTES, description="Attributes of the caller, as text."
    )
    room_config: RoomConfig | None = Field(default=None, description="The agent to call.")

    @field_validator("room_name", "participant_name", "participant_identity")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        return printable(value) if value else None

    @field_validator("participant_attributes")
    @classmethod
    def _unreserved(cls, values: dict[str, str] | None) -> dict[str, str] | None:
        for key in values or {}:
            if not key or len(key) > 64 or key.startswith(RESERVED_ATTRIBUTES):
                raise ValueError(f"the attribute {key[:64]!r} is reserved, empty or too long; send another one")
        return values

    @property
    def dispatch(self) -> AgentDispatch:
        """The agent that the request names.

        Raises:
            RequestError: 400, it names several.
        """
        agents = (self.room_config.agents if self.room_config else None) or [AgentDispatch()]
        if len(agents) > 1:
            message = "The field room_config.agents has more than one agent. A call has one: send only that one."
            raise RequestError(400, ErrorReason.INVALID_REQUEST, message, field="room_config.agents")
        return agents[0]

    def digest(self) -> str:
        """Return a hash of the request, for the room record."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


class TokenIssuer:
    """Issues tokens. It needs LiveKit only to see whether a room that a key's holder names belongs to another agent."""

    def __init__(self, connections: Connections, dispatcher: Dispatcher) -> None:
        self._connections = connections
        self._dispatcher = dispatcher

    async def issue(self, agent: Agent, request: TokenRequest, client: Client) -> str:
        """Return a token with which a caller joins a room and so opens a call to the agent.

        The room gets exactly the requested name when the client has an API key.

        Raises:
            RequestError: 400, 409, 502 or 503; the agent takes no calls, or not in such a room.
        """
        if reason := unavailable_reason(agent):
            raise RequestError(409, ErrorReason(reason.value), MESSAGES[reason])
        call_id, trusted = new_call_id(agent.key), client.scope != PUBLIC_SCOPE
        room = _room(agent, request, call_id, trusted=trusted)
        connection = await connect(self._connections, agent)
        if request.room_name and trusted:
            await _check_room(agent, connection, room, client)
        identity = request.participant_identity or f"caller-{call_id}"
        token = room_token(
            connection.credentials,
            room=room,
            identity=identity,
            name=request.participant_name or "",
            metadata=request.participant_metadata or "",
            attributes=request.participant_attributes or {},
            configuration=_configuration(agent, connection, request, call_id, identity, waits=self._must_wait(agent)),
        )
        if len(token) > MAX_TOKEN_LENGTH:
            message = (
                f"The token would have {len(token)} characters; {MAX_TOKEN_LENGTH} are the limit. Send less metadata "
                "and fewer attributes."
            )
            raise RequestError(400, ErrorReason.INVALID_REQUEST, message)
        fields = {"agent": agent.key, "call_id": call_id, "room": room}
        logger.info("token issued", extra=fields | client.log_fields())
        return token

    def _must_wait(self, agent: Agent) -> bool:
        """Return whether the call waits for the gateway before its agent is dispatched.

        Only the gateway can give the call an avatar seat, or find that workers of another agent use the name. And only
        the gateway knows the line, which a dispatch by the token would overtake. It can only know the line of now: the
        token may be used minutes later.
        """
        has_line = self._dispatcher.admission(agent.key) is Admission.WAIT
        return has_line or agent.spec.avatar.max_sessions is not None or not agent.name_checked


def _room(agent: Agent, request: TokenRequest, call_id: str, *, trusted: bool) -> str:
    """Return the name of the room. Without a key nobody can name the room of another caller."""
    pattern = agent.spec.dispatch.room_name_pattern
    try:
        if not request.room_name:
            return room_name(pattern, call_id)
        room = request.room_name if trusted else f"{request.room_name}-{call_id}"
        if len(room.encode()) <= MAX_ROOM_NAME_BYTES and compile_pattern(pattern).search(room):
            return room
    except RoomPatternInvalid as error:
        message = f"The agent {agent.name} takes no calls because of its roomNamePattern {pattern!r}: {error}."
        raise RequestError(409, ErrorReason.ROOM_NAME_MISMATCH, message) from error
    message = (
        f"The agent {agent.name} serves no room named {room!r}: its roomNamePattern is {pattern!r}. Send a room_name "
        f"that matches and has at most {MAX_ROOM_NAME_BYTES} bytes, or send none."
    )
    raise RequestError(400, ErrorReason.ROOM_NAME_MISMATCH, message, field="room_name")


async def _check_room(agent: Agent, connection: Connection, room: str, client: Client) -> None:
    """Raise `RequestError` when the room is open and not one of the agent's calls: its callers must not be heard."""
    with livekit_failures(agent, room=room, **client.log_fields()):
        for found in await connection.livekit.rooms([room]):
            record = read_room_record(found.metadata)
            if record is None or record.agent != agent.key:
                message = f"The room {room!r} is open, and it is no call of the agent {agent.name}. Send another name."
                raise RequestError(409, ErrorReason.ROOM_TAKEN, message, field="room_name")


def _configuration(
    agent: Agent, connection: Connection, request: TokenRequest, call_id: str, identity: str, *, waits: bool
) -> api.RoomConfiguration:
    """Return the room that LiveKit makes when the caller joins: the same as for a call that the gateway opens.

    ``waits``: the gateway dispatches the agent, and not LiveKit.
    """
    record = RoomRecord(
        call_id=call_id,
        agent=agent.key,
        identity=identity,
        created_at=time.time(),
        request_hash=request.digest(),
        agent_name=agent.agent_name,
        call_token_hash=fingerprint(call_token(connection.credentials, call_id)),
        from_token=True,
    )
    facts, _ = read_dispatch_metadata(request.dispatch.metadata or "")
    metadata = DispatchMetadata(
        call_id=call_id,
        caller_identity=identity,
        user_id=facts.user_id,
        language=facts.language or agent.spec.language,
        capabilities=facts.capabilities,
        metadata=facts.metadata,
    )
    agent_name = WAITING_AGENT_NAME if waits else agent.agent_name
    return api.RoomConfiguration(
        empty_timeout=EMPTY_ROOM_SECONDS,
        departure_timeout=DEPARTURE_SECONDS,
        max_participants=MAX_PARTICIPANTS,
        metadata=render(record),
        agents=[api.RoomAgentDispatch(agent_name=agent_name, metadata=render(metadata))],
    )
