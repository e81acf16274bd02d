"""Plays LiveKit's server API in memory: rooms, participants and dispatches. It counts the requests by method.

A real server needs real callers for thousands of rooms. The gateway cannot tell the difference: it sees only this API.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from google.protobuf.message import Message
from livekit import api

_Handler = Callable[[bytes], Message]


@dataclass
class PlayedRoom:
    """An open room."""

    info: api.Room
    participants: list[api.ParticipantInfo] = field(default_factory=list)
    dispatches: list[api.AgentDispatch] = field(default_factory=list)


class PlayedLiveKit:
    """A server without media."""

    def __init__(self) -> None:
        self.rooms: dict[str, PlayedRoom] = {}
        self.requests: Counter[str] = Counter()
        self._ids = itertools.count(1)
        self._handlers: dict[str, _Handler] = {
            "RoomService/CreateRoom": self._create_room,
            "RoomService/ListRooms": self._list_rooms,
            "RoomService/ListParticipants": self._list_participants,
            "RoomService/DeleteRoom": self._delete_room,
            "RoomService/RemoveParticipant": lambda body: api.RemoveParticipantResponse(),
            "AgentDispatchService/ListDispatch": self._list_dispatch,
            "AgentDispatchService/CreateDispatch": self._create_dispatch,
            "AgentDispatchService/DeleteDispatch": self._delete_dispatch,
        }

    def application(self) -> web.Application:
        """Return the web application that serves the API."""
        application = web.Application()
        application.router.add_post("/twirp/livekit.{method:.*}", self._answer)
        return application

    def add(self, name: str, metadata: str, dispatch: api.AgentDispatch, *participants: api.ParticipantInfo) -> None:
        """Open a room with participants."""
        info = api.Room(name=name, sid=f"RM_{next(self._ids)}", metadata=metadata, creation_time_ms=1_000)
        info.num_participants = sum(one.kind != api.ParticipantInfo.Kind.AGENT for one in participants)
        info.num_publishers = len(participants)
        self.rooms[name] = PlayedRoom(info, list(participants), [dispatch])

    async def _answer(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        self.requests[method.partition("/")[2]] += 1
        answer = self._handlers[method](await request.read())
        return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")

    def _create_room(self, body: bytes) -> Message:
        request = api.CreateRoomRequest.FromString(body)
        if request.name not in self.rooms:
            agent = request.agents[0]
            self.add(request.name, request.metadata, self._dispatch(request.name, agent.agent_name, agent.metadata))
        return self.rooms[request.name].info

    def _list_rooms(self, body: bytes) -> Message:
        names = api.ListRoomsRequest.FromString(body).names
        found = [room.info for name, room in self.rooms.items() if not names or name in names]
        return api.ListRoomsResponse(rooms=found)

    def _list_participants(self, body: bytes) -> Message:
        room = self.rooms.get(api.ListParticipantsRequest.FromString(body).room)
        return api.ListParticipantsResponse(participants=room.participants if room else [])

    def _delete_room(self, body: bytes) -> Message:
        self.rooms.pop(api.DeleteRoomRequest.FromString(body).room, None)
        return api.DeleteRoomResponse()

    def _list_dispatch(self, body: bytes) -> Message:
        room = self.rooms.get(api.ListAgentDispatchRequest.FromString(body).room)
        return api.ListAgentDispatchResponse(agent_dispatches=room.dispatches if room else [])

    def _create_dispatch(self, body: bytes) -> Message:
        request = api.CreateAgentDispatchRequest.FromString(body)
        created = self._dispatch(request.room, request.agent_name, request.metadata)
        self.rooms[request.room].dispatches.append(created)
        return created

    def _delete_dispatch(self, body: bytes) -> Message:
        request = api.DeleteAgentDispatchRequest.FromString(body)
        room = self.rooms[request.room]
        (found,) = [one for one in room.dispatches if one.id == request.dispatch_id]
        room.dispatches.remove(found)
        return found

    def _dispatch(self, room: str, agent_name: str, metadata: str) -> api.AgentDispatch:
        return api.AgentDispatch(id=f"AD_{next(self._ids)}", agent_name=agent_name, room=room, metadata=metadata)
