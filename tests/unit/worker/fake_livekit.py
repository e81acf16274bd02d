"""LiveKit's side of a worker's connection: the agent protocol over a WebSocket on this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.protocol import agent, models

WORKER_ID = "AW_1"


class FakeLiveKit:
    """Accepts workers, offers them jobs, and records what they report."""

    def __init__(self) -> None:
        self.url = ""
        self.accepts_registrations = True
        self.answers_pings = True
        self.connections = 0
        self.registrations: list[agent.RegisterWorkerRequest] = []
        self.loads: list[float] = []
        """The loads that the worker reported, in order."""
        self.available: dict[str, bool] = {}
        """The worker's answer to each offered job."""
        self._sockets: list[web.WebSocketResponse] = []
        self._offered: dict[str, agent.Job] = {}

    async def offer(self, job_id: str, room: str, metadata: str = "") -> None:
        """Offer a job to the worker; an accepted one is assigned at once."""
        room_info = models.Room(sid="RM_1", name=room)
        job = agent.Job(id=job_id, room=room_info, type=agent.JobType.JT_ROOM, metadata=metadata)
        self._offered[job_id] = job
        await self._send(agent.ServerMessage(availability=agent.AvailabilityRequest(job=job)))

    async def close_connections(self) -> None:
        """Close the workers' connections, as a LiveKit server that stops does."""
        for socket in self._sockets:
            await socket.close()

    async def _send(self, message: agent.ServerMessage) -> None:
        await self._sockets[-1].send_bytes(message.SerializeToString())

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=self.answers_pings)
        await socket.prepare(request)
        self.connections += 1
        self._sockets.append(socket)
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.BINARY:
                continue
            message = agent.WorkerMessage.FromString(frame.data)
            await self._on_message(socket, message)
        return socket

    async def _on_message(self, socket: web.WebSocketResponse, message: agent.WorkerMessage) -> None:
        match message.WhichOneof("message"):
            case "register":
                self.registrations.append(message.register)
                if not self.accepts_registrations:
                    await socket.close()
                    return
                await self._send(agent.ServerMessage(register=agent.RegisterWorkerResponse(worker_id=WORKER_ID)))
            case "update_worker":
                self.loads.append(message.update_worker.load)
            case "availability":
                answer = message.availability
                self.available[answer.job_id] = answer.available
                if answer.available:
                    job = self._offered[answer.job_id]
                    await self._send(agent.ServerMessage(assignment=agent.JobAssignment(job=job, token="token")))


@asynccontextmanager
async def fake_livekit() -> AsyncIterator[FakeLiveKit]:
    """Run the server within the context."""
    livekit = FakeLiveKit()
    app = web.Application()
    app.router.add_get("/agent", livekit._serve)
    async with TestServer(app) as server:
        livekit.url = str(server.make_url("")).replace("http://", "ws://").rstrip("/")
        yield livekit
        async with asyncio.timeout(5):
            await livekit.close_connections()
