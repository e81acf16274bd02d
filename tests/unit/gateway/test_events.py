"""The stream of workers' reports from the controller: it is opened again, and a silent one counts as broken."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agentspec.wire import JobReport, JobState, WorkerCalls, render
from gateway.cluster import events
from gateway.cluster.events import WorkerEvents
from gateway.settings import GatewaySettings
from tests.waiting import eventually_in_thread

LINE = WorkerCalls(agent="agents/ornina", worker="pod-1", jobs=[JobReport(job_id="1", room="r", state=JobState.JOINED)])


@dataclass
class Received:
    """A receiver that remembers."""

    begun: int = 0
    lines: list[WorkerCalls] = field(default_factory=list)

    def begin(self) -> None:
        self.begun += 1

    def receive(self, calls: WorkerCalls) -> None:
        self.lines.append(calls)


@dataclass
class Controller:
    """A controller whose stream sends what is in the queue; None ends the stream."""

    lines: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    tokens: list[str] = field(default_factory=list)
    gateways: list[str] = field(default_factory=list)
    status: int = 200

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization", ""))
        self.gateways.append(request.query["gateway"])
        if self.status != 200:
            return web.Response(status=self.status)
        response = web.StreamResponse()
        await response.prepare(request)
        while (line := await self.lines.get()) is not None:
            await response.write(line)
        return response


@pytest.fixture
async def controller() -> Controller:
    return Controller()


@pytest.fixture
async def received() -> Received:
    return Received()


@pytest.fixture
async def stream(
    controller: Controller, received: Received, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkerEvents]:
    """The gateway's end of the stream, running."""
    monkeypatch.setattr(events, "RETRY_SECONDS", 0.01)
    (tmp_path / "token").write_text("a-token\n")
    application = web.Application()
    application.router.add_get("/v1/events", controller.answer)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        settings = GatewaySettings(controller_url=str(server.make_url("")), controller_token_file=tmp_path / "token")
        created = WorkerEvents(settings, session, received, "gateway-0.a1b2c3")
        running = asyncio.create_task(created.run())
        yield created
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        controller.lines.put_nowait(None)


async def test_lines_are_received_with_the_gateways_token_and_name(
    stream: WorkerEvents, controller: Controller, received: Received
) -> None:
    assert not stream.is_heard()
    controller.lines.put_nowait(render(LINE).encode() + b"\n")
    await eventually_in_thread(lambda: received.lines == [LINE], "the line is received")
    assert stream.is_heard()
    assert controller.tokens == ["Bearer a-token"]
    assert controller.gateways == ["gateway-0.a1b2c3"]


async def test_stream_that_ends_is_opened_again_from_the_beginning(
    stream: WorkerEvents, controller: Controller, received: Received
) -> None:
    controller.lines.put_nowait(b"\n")
    await eventually_in_thread(stream.is_heard, "it is heard")
    controller.lines.put_nowait(None)
    await eventually_in_thread(lambda: received.begun == 2, "it begins again")


async def test_invalid_line_is_skipped(
    stream: WorkerEvents, controller: Controller, received: Received, caplog: pytest.LogCaptureFixture
) -> None:
    controller.lines.put_nowait(b'{"agent": 1}\n' + render(LINE).encode() + b"\n")
    await eventually_in_thread(lambda: received.lines == [LINE], "the next line is received")
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "invalid worker report ignored"
    ]


async def test_silent_stream_is_not_heard(
    stream: WorkerEvents, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.lines.put_nowait(b"\n")
    await eventually_in_thread(stream.is_heard, "it is heard")
    monkeypatch.setattr(events, "SILENCE_SECONDS", 0.0)
    assert not stream.is_heard()


async def test_refusing_controller_is_asked_again(controller: Controller, stream: WorkerEvents) -> None:
    controller.status = 503
    controller.lines.put_nowait(None)
    await eventually_in_thread(lambda: len(controller.tokens) >= 2, "it is asked again")
    controller.status = 200
    controller.lines.put_nowait(b"\n")
    await eventually_in_thread(stream.is_heard, "it is heard")
