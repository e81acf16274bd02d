"""The part of LiveKit's server API that calls need.

This module relies on the following behaviour of livekit-server 1.13.5 (pkg/service, pkg/rtc/room.go):

- ``CreateRoom`` on an existing room changes nothing and dispatches nothing, so the gateway may repeat it.
- A room created without agents gets a dispatch to the empty name, which every unnamed worker accepts. The gateway
  therefore creates the room of a waiting call with a dispatch to `WAITING_AGENT_NAME`. No worker can have this name.
- ``CreateDispatch`` on a missing room creates the room, together with that empty dispatch.
- ``ListDispatch`` keeps listing a job in the state in which it was assigned. A participant identity means that a worker
  accepted the job; it does not mean that the worker still runs.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from google.protobuf.message import DecodeError
from livekit import api
from livekit.api.room_service import RoomService

from gateway.livekit.tokens import ROOMS_TOKEN_LIFETIME, Credentials, rooms_token

WAITING_AGENT_NAME = "avatar-agent:waiting"
"""Agent name of the dispatch that holds a waiting call's metadata. The CRD allows no colon in an agent name."""
REQUEST_SECONDS: Final = 6.0
"""Longest request: longer than the 3 s after which LiveKit itself gives up on a room's node. The session's timeout is
not enough. LiveKit's client passes None for it, and aiohttp 3.14 then waits for ever."""
EMPTY_ROOM_SECONDS = 90
"""LiveKit closes a room that no participant has entered after this long, even when no gateway runs."""
DEPARTURE_SECONDS = 30
"""LiveKit closes a room this long after its caller left; a page reload is quicker."""
MAX_CONNECTIONS: Final = 32
"""Connections to one server. A server that hangs uses up its own, and delays no requests to another one."""
ROOMS_TOKEN_SECONDS: Final = ROOMS_TOKEN_LIFETIME.total_seconds() / 2
"""Age at which the token for requests about all rooms is replaced."""
MAX_PARTICIPANTS = 4
"""The caller, the agent, its avatar, and a replacement agent."""

ATTRIBUTE_AGENT_NAME = "lk.agent_name"
"""Set by the server from the worker's registration: livekit-server pkg/agent/worker.go, AssignJob."""
ATTRIBUTE_CLAIMED_NAME = "lk.agent.name"
"""Set by livekit-agents; used when the server does not set `ATTRIBUTE_AGENT_NAME`."""
ATTRIBUTE_ON_BEHALF = "lk.publish_on_behalf"
"""Set on avatars, which are participants of kind agent too: livekit-agents types.py."""

REQUEST_METHODS: Final = (
    "CreateRoom",
    "ListRooms",
    "ListParticipants",
    "ListDispatch",
    "CreateDispatch",
    "DeleteDispatch",
    "RemoveParticipant",
    "UpdateRoomMetadata",
    "DeleteRoom",
)
"""The methods of LiveKit's API that the gateway uses."""
OK: Final = "ok"
UNREACHABLE: Final = "unreachable"
"""Code of a request without an answer, or with one that is not LiveKit's."""
RequestObserver = Callable[[str, str, float], None]
"""Receives method, code and seconds of a request. The code is `OK`, `UNREACHABLE` or an error code of LiveKit's API."""

_ERROR_CODES: Final = frozenset(code for name, code in vars(api.TwirpErrorCode).items() if name.isupper())


def livekit_connector() -> aiohttp.TCPConnector:
    """Create the connector for requests to all servers. It needs a running event loop."""
    return aiohttp.TCPConnector(limit=0, limit_per_host=MAX_CONNECTIONS)


class LiveKitError(Exception):
    """A request to LiveKit failed."""


class LiveKitUnreachable(LiveKitError):
    """LiveKit did not answer, or answered with a server error. A retry may help."""


class LiveKitRefused(LiveKitError):
    """LiveKit rejected the credentials or the request. A retry with the same credentials does not help."""


class RoomMissing(LiveKitError):
    """The room, or the dispatch in it, does not exist."""


@dataclass(frozen=True, slots=True)
class Room:
    """An open room, as LiveKit lists it. The list follows a change of the counts within 5 s (pkg/rtc/room.go)."""

    name: str
    metadata: str
    sid: str = ""
    """LiveKit's id of the room. A room that comes back after a restart of LiveKit has another one."""
    created_at: float = 0.0
    """Unix seconds."""
    participants: int = 0
    """Number of participants other than agents and recorders."""
    publishers: int = 0
    """Number of participants that publish a track, agents included."""


@dataclass(frozen=True)
class Participant:
    """An active participant of a room, which can already publish and subscribe."""

    identity: str
    is_agent: bool
    agent_name: str
    """Agent name, for a participant that is an agent; empty for callers and avatars."""
    joined_at: int
    """Unix milliseconds."""


@dataclass(frozen=True)
class Dispatch:
    """A dispatch in a room."""

    id: str
    agent_name: str
    metadata: str
    accepted: bool
    """A worker accepted the dispatch; the worker may have stopped since."""
    created_at: float = 0.0
    """Unix seconds of LiveKit's clock."""


class LiveKit(Protocol):
    """One LiveKit server with the credentials of one agent. Every method may raise `LiveKitError`."""

    async def create_room(self, name: str, metadata: str, agent_name: str, dispatch_metadata: str) -> None: ...

    async def rooms(self, names: Sequence[str] = ()) -> list[Room]: ...

    async def participants(self, room: str) -> list[Participant]: ...

    async def dispatches(self, room: str) -> list[Dispatch]: ...

    async def create_dispatch(self, room: str, agent_name: str, metadata: str) -> None: ...

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None: ...

    async def remove_participant(self, room: str, identity: str) -> None: ...

    async def set_metadata(self, room: str, metadata: str) -> None: ...

    async def delete_room(self, room: str) -> None: ...


class LiveKitServer:
    """`LiveKit` over HTTP. Calls ``on_refused`` when the server rejects a request, and ``observe`` after each one."""

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        session: aiohttp.ClientSession,
        on_refused: Callable[[], None],
        observe: RequestObserver = lambda method, code, seconds: None,
    ) -> None:
        self._api = api.LiveKitAPI(url, credentials.api_key, credentials.api_secret, session=session)
        self._url = url
        self._credentials = credentials
        self._session = session
        self._rooms_api: api.LiveKitAPI | None = None
        self._rooms_api_at = 0.0
        self._on_refused = on_refused
        self._observe = observe

    async def create_room(self, name: str, metadata: str, agent_name: str, dispatch_metadata: str) -> None:
        request = api.CreateRoomRequest(
            name=name,
            metadata=metadata,
            empty_timeout=EMPTY_ROOM_SECONDS,
            departure_timeout=DEPARTURE_SECONDS,
            max_participants=MAX_PARTICIPANTS,
            agents=[api.RoomAgentDispatch(agent_name=agent_name, metadata=dispatch_metadata)],
        )
        async with self._request("CreateRoom"):
            await self._all_rooms().create_room(request)

    async def rooms(self, names: Sequence[str] = ()) -> list[Room]:
        async with self._request("ListRooms"):
            answer = await self._all_rooms().list_rooms(api.ListRoomsRequest(names=names))
        return [
            Room(
                name=room.name,
                metadata=room.metadata,
                sid=room.sid,
                created_at=room.creation_time_ms / 1000 or float(room.creation_time),
                participants=room.num_participants,
                publishers=room.num_publishers,
            )
            for room in answer.rooms
        ]

    async def participants(self, room: str) -> list[Participant]:
        async with self._request("ListParticipants"):
            answer = await self._api.room.list_participants(api.ListParticipantsRequest(room=room))
        return [_participant(info) for info in answer.participants if info.state == api.ParticipantInfo.State.ACTIVE]

    async def dispatches(self, room: str) -> list[Dispatch]:
        async with self._request("ListDispatch"):
            answer = await self._api.agent_dispatch.list_dispatch(room)
        return [_dispatch(found) for found in answer]

    async def create_dispatch(self, room: str, agent_name: str, metadata: str) -> None:
        request = api.CreateAgentDispatchRequest(room=room, agent_name=agent_name, metadata=metadata)
        async with self._request("CreateDispatch"):
            await self._api.agent_dispatch.create_dispatch(request)

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        async with self._request("DeleteDispatch"):
            await self._api.agent_dispatch.delete_dispatch(dispatch_id, room)

    async def remove_participant(self, room: str, identity: str) -> None:
        async with self._request("RemoveParticipant"):
            await self._api.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=identity))

    async def set_metadata(self, room: str, metadata: str) -> None:
        async with self._request("UpdateRoomMetadata"):
            await self._api.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata=metadata))

    async def delete_room(self, room: str) -> None:
        async with self._request("DeleteRoom"):
            await self._api.room.delete_room(api.DeleteRoomRequest(room=room))

    def _all_rooms(self) -> RoomService:
        """Return the requests that are about no single room, with one token for many of them.

        The client library signs a token for every request, which takes as long as the rest of the request. Requests
        about one room need a token for that room.
        """
        now = time.monotonic()
        if self._rooms_api is None or now - self._rooms_api_at > ROOMS_TOKEN_SECONDS:
            token = rooms_token(self._credentials)
            self._rooms_api, self._rooms_api_at = api.LiveKitAPI(self._url, token=token, session=self._session), now
        return self._rooms_api.room

    @asynccontextmanager
    async def _request(self, method: str) -> AsyncIterator[None]:
        """Bound a request, map errors of the client library to `LiveKitError`, report rejections, and observe it."""
        started, code = time.monotonic(), OK
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                yield
        except api.TwirpError as error:
            code = error.code if error.code in _ERROR_CODES else api.TwirpErrorCode.UNKNOWN
            translation = _translation(error)
            if isinstance(translation, LiveKitRefused):
                self._on_refused()
            raise translation from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            code = UNREACHABLE
            raise LiveKitUnreachable(f"LiveKit did not answer: {type(error).__name__}") from error
        except (DecodeError, ValueError) as error:
            code = UNREACHABLE
            raise LiveKitUnreachable(f"the server that answered is not LiveKit: {type(error).__name__}") from error
        except asyncio.CancelledError:
            code = ""
            raise
        finally:
            if code:
                self._observe(method, code, time.monotonic() - started)


def _participant(info: api.ParticipantInfo) -> Participant:
    is_agent = info.kind == api.ParticipantInfo.Kind.AGENT
    speaks_for_itself = is_agent and ATTRIBUTE_ON_BEHALF not in info.attributes
    claimed = info.attributes.get(ATTRIBUTE_CLAIMED_NAME, "")
    name = info.attributes.get(ATTRIBUTE_AGENT_NAME, claimed) if speaks_for_itself else ""
    return Participant(identity=info.identity, is_agent=is_agent, agent_name=name, joined_at=info.joined_at_ms)


def _dispatch(found: api.AgentDispatch) -> Dispatch:
    return Dispatch(
        id=found.id,
        agent_name=found.agent_name,
        metadata=found.metadata,
        accepted=any(job.state.participant_identity for job in found.state.jobs),
        created_at=found.state.created_at / 1e9,  # nanoseconds: livekit-server pkg/rtc/room.go
    )


def _translation(error: api.TwirpError) -> LiveKitError:
    text = f"LiveKit answered {error.status} {error.code}: {error.message}"
    if error.code == api.TwirpErrorCode.NOT_FOUND:
        return RoomMissing(text)
    if 400 <= error.status < 500 and error.status != 429:
        return LiveKitRefused(text)
    return LiveKitUnreachable(text)
