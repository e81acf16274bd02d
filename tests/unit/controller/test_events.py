"""GET /v1/events over a real connection: the present state, each change at once, heartbeats, and bounded readers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientResponse, web

from agentspec.wire import JobReport, JobState, WorkerCalls, read
from controller.fleet.jobs import WorkerJobs
from controller.policy.lost_workers import LossReason
from controller.runtime import events
from controller.runtime.events import EventStreams
from tests.unit.controller.builders import KEY, status
from tests.waiting import soon


def job(number: int, state: JobState = JobState.JOINED) -> JobReport:
    return JobReport(job_id=f"AJ_{number}", room=f"ava-{number}", state=state)


def calls(*jobs: JobReport, worker: str = "pod-1", lost: bool = False) -> WorkerCalls:
    return WorkerCalls(agent="shop/ava", worker=worker, jobs=list(jobs), lost=lost)


class Scene:
    """A server of one route, with the jobs that a test records."""

    def __init__(self) -> None:
        self.jobs = WorkerJobs()
        self.is_leader = True
        self.streams = EventStreams(self.jobs, lambda: self.is_leader, time.monotonic)
        self.url = ""
        self.opened_streams: list[ClientResponse] = []
        self.session: aiohttp.ClientSession

    def report(self, *jobs: JobReport, worker: str = "pod-1") -> None:
        self.jobs.record(KEY, worker, status(jobs=list(jobs)), time.monotonic())

    async def open(self, gateway: str = "") -> ClientResponse:
        """Open a stream, of a gateway that gives its name or none."""
        response = await self.session.get(self.url, params={"gateway": gateway} if gateway else {})
        self.opened_streams.append(response)
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        return response

    async def opened(self, beginning: int = 0, gateway: str = "") -> ClientResponse:
        """Open a stream and skip its beginning of this many workers."""
        response = await self.open(gateway)
        assert len([await line_of(response) for _ in range(beginning + 1)]) == beginning + 1
        return response


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made, application = Scene(), web.Application()
    application.router.add_get("/v1/events", made.streams.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/events"
    async with aiohttp.ClientSession() as made.session:
        yield made
        for response in made.opened_streams:
            response.close()
    made.streams.close()
    await runner.cleanup()


async def line_of(response: ClientResponse) -> bytes:
    return await asyncio.wait_for(response.content.readline(), 10)


async def calls_of(response: ClientResponse) -> WorkerCalls:
    """The next line that is no heartbeat."""
    while not (line := await line_of(response)).strip():
        assert line == b"\n", "the stream ended"
    return read(WorkerCalls, line)


async def test_stream_begins_with_every_worker_that_has_jobs(scene: Scene) -> None:
    scene.report(job(2), worker="pod-2")
    scene.report(job(1))
    scene.report(worker="pod-3")
    scene.jobs.lose(KEY, "pod-2", LossReason.POD_GONE, time.monotonic())
    response = await scene.open()
    assert [await line_of(response) for _ in range(3)] == [
        b'{"agent":"shop/ava","worker":"pod-1","jobs":[{"jobID":"AJ_1","room":"ava-1","state":"joined","outcome":""}],'
        b'"lost":false}\n',
        b'{"agent":"shop/ava","worker":"pod-2","jobs":[{"jobID":"AJ_2","room":"ava-2","state":"joined","outcome":""}],'
        b'"lost":true}\n',
        b"\n",
    ]


async def test_every_reader_gets_each_change_in_order(scene: Scene) -> None:
    readers = [await scene.opened() for _ in range(3)]
    scene.report(job(1, JobState.STARTING))
    scene.report(job(1))
    scene.jobs.lose(KEY, "pod-1", LossReason.PROCESS_ENDED, time.monotonic())
    scene.report(job(1))
    for reader in readers:
        assert [await calls_of(reader) for _ in range(4)] == [
            calls(job(1, JobState.STARTING)),
            calls(job(1)),
            calls(job(1), lost=True),
            calls(job(1)),
        ]


async def test_quiet_stream_has_heartbeats(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENTS_HEARTBEAT_SECONDS", 0.02)
    response = await scene.open()
    assert [await line_of(response) for _ in range(5)] == [b"\n"] * 5


async def test_reader_that_left_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENTS_HEARTBEAT_SECONDS", 0.02)
    response = await scene.opened()
    assert len(scene.streams._streams) == 1
    response.close()
    await soon(lambda: not scene.streams._streams)


async def ends(response: ClientResponse) -> None:
    async with asyncio.timeout(10):
        while await response.content.readline():
            pass


@pytest.mark.parametrize("how", ["closed", "lease lost"])
async def test_all_streams_end_at_shutdown_and_with_the_lease(scene: Scene, how: str) -> None:
    readers = [await scene.opened() for _ in range(2)]
    if how == "closed":
        scene.streams.close()
    else:
        scene.is_leader = False
        scene.report(job(1))  # a standby sends nothing, not even this
    for reader in readers:
        async with asyncio.timeout(10):
            assert (await reader.content.read()).strip() == b""


async def test_gateway_that_opens_a_second_stream_loses_its_first(scene: Scene) -> None:
    first, other = await scene.opened(gateway="g1"), await scene.opened(gateway="g2")
    second = await scene.opened(gateway="g1")
    await ends(first)
    scene.report(job(1))
    assert [await calls_of(reader) for reader in (other, second)] == [calls(job(1))] * 2


@pytest.mark.parametrize("name", ["g{}", ""], ids=["named", "of an older release"])
async def test_many_gateways_each_keep_their_stream(scene: Scene, name: str) -> None:
    readers = [await scene.opened(gateway=name.format(number)) for number in range(40)]
    scene.report(job(1))
    assert [await calls_of(reader) for reader in readers] == [calls(job(1))] * 40


async def test_one_stream_too_many_ends_the_oldest(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", 2)
    first, second, third = [await scene.opened() for _ in range(3)]
    await ends(first)
    scene.report(job(1))
    assert [await calls_of(reader) for reader in (second, third)] == [calls(job(1))] * 2


async def test_reader_that_falls_behind_is_cut_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_QUEUED_LINES", 3)
    response = await scene.opened()
    for number in range(5):  # faster than the stream can send
        scene.report(job(number))
    assert not scene.streams._streams
    await ends(response)
    again = await scene.open()
    assert await calls_of(again) == calls(job(4)), "it gets the present state"


async def test_reader_that_receives_nothing_is_cut_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WRITE_SECONDS", 0.1)
    host, port = scene.url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1)
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: controller\r\n\r\n")
    await reader.read(1)  # from now on its window fills
    await soon(lambda: len(scene.streams._streams) == 1)
    room = "r" * 500
    for number in range(100_000):
        if not scene.streams._streams:
            break
        many = [JobReport(job_id=f"{number}-{index}", room=room) for index in range(100)]
        scene.report(*many)
        await asyncio.sleep(0)
    assert not scene.streams._streams
    writer.close()


async def test_lines_are_what_a_reader_of_any_release_can_read(scene: Scene) -> None:
    scene.report(job(1))
    line: dict[str, Any] = json.loads(await line_of(await scene.open()))
    line["new"], line["jobs"][0]["newer"], line["jobs"][0]["state"] = 1, {"deep": []}, "paused"
    line["jobs"][0]["outcome"] = "transferred"
    assert read(WorkerCalls, json.dumps(line)).jobs == [job(1).model_copy(update={"outcome": "transferred"})]
