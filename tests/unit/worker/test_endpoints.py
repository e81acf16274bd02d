"""The worker's HTTP endpoints."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from agentspec import WorkerStatus
from agentspec.wire import JobReport, JobState, StageReports
from tests.ports import free_port
from worker import avatar_limit
from worker.server import status_stream
from worker.server.endpoints import make_app, serve, unready

JOB = JobReport(job_id="AJ_1", room="ornina-1", state=JobState.JOINED)


def _status(registered: bool, draining: bool) -> WorkerStatus:
    return WorkerStatus(
        agent_name="ornina", worker_id="AW_1", registered=registered, draining=draining, slots=4, calls=1
    )


class _Worker:
    def __init__(self, status: WorkerStatus) -> None:
        self.state = status
        self.reads = 0

    def status(self) -> WorkerStatus:
        self.reads += 1
        return self.state


@pytest.mark.parametrize(
    ("registered", "draining", "ready", "word"),
    [
        (True, False, True, "ok"),
        (False, False, False, "not registered"),
        (True, True, False, "draining"),
        (False, True, False, "draining"),
    ],
)
async def test_ready_is_registered_and_not_draining(registered: bool, draining: bool, ready: bool, word: str) -> None:
    status = _status(registered, draining)
    assert (unready(status) == "") is ready
    async with TestClient(TestServer(make_app(_Worker(status)))) as client:
        response = await client.get("/readyz")
        assert response.status == (200 if ready else 503)
        assert word in await response.text()
        assert (await client.get("/livez")).status == 200


async def test_status_is_the_wire_document() -> None:
    status = _status(registered=True, draining=False)
    async with TestClient(TestServer(make_app(_Worker(status)))) as client:
        response = await client.get("/status")
        assert response.content_type == "application/json"
        assert WorkerStatus.model_validate_json(await response.text()) == status


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", set()),
        ("?stages", {"stages"}),
        ("?stages=1", {"stages"}),
        ("?jobs", {"jobs"}),
        ("?stages&jobs", {"stages", "jobs"}),
    ],
)
async def test_stages_and_jobs_are_for_readers_that_ask(query: str, fields: set[str]) -> None:
    """Release 0.1.0 rejects a status with a field that it does not know."""
    status = _status(registered=True, draining=False).model_copy(update={"stages": StageReports(), "jobs": [JOB]})
    async with TestClient(TestServer(make_app(_Worker(status)))) as client:
        text = await (await client.get(f"/status{query}")).text()
        assert json.loads(text).keys() & {"stages", "jobs"} == fields
        watch = await client.get("/status?watch" + query.replace("?", "&"))
        line = await asyncio.wait_for(watch.content.readline(), 2)
        assert json.loads(line).keys() & {"stages", "jobs"} == fields
        watch.close()


async def test_metrics_are_prometheus_text() -> None:
    async with TestClient(TestServer(make_app(_Worker(_status(True, False))))) as client:
        response = await client.get("/metrics")
        assert response.status == 200
        assert "# TYPE avatar_agent_worker_slots gauge" in await response.text()


@pytest.fixture
def watched() -> _Worker:
    return _Worker(_status(registered=True, draining=False))


@pytest.fixture
async def client(watched: _Worker) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(make_app(watched))) as client:
        yield client


async def _next(stream: ClientResponse) -> WorkerStatus:
    line = await asyncio.wait_for(stream.content.readline(), 2)
    return WorkerStatus.model_validate_json(line)


async def test_watcher_gets_state_and_every_change_within_100_ms(
    watched: _Worker, client: TestClient[Any, Any]
) -> None:
    async with client.get("/status?watch") as stream:
        assert stream.content_type == "application/x-ndjson"
        assert await _next(stream) == watched.state
        clock = asyncio.get_running_loop().time
        for calls in (2, 3, 0):
            watched.state = watched.state.model_copy(update={"calls": calls})
            changed_at = clock()
            assert (await _next(stream)).calls == calls
            assert clock() - changed_at < 0.1
        with pytest.raises(TimeoutError):  # no change, no line
            await asyncio.wait_for(stream.content.readline(), 3 * status_stream.POLL_SECONDS)


async def test_unchanged_state_is_repeated_as_heartbeat(
    watched: _Worker, client: TestClient[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_stream, "STATUS_HEARTBEAT_SECONDS", 0.2)
    async with client.get("/status?watch") as stream:
        assert [await _next(stream) for _ in range(3)] == [watched.state] * 3


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ("", []),
        ("&maxAvatars=5", [5]),
        ("&maxAvatars=", [None]),
        ("&maxAvatars=%2d1", [None]),
        ("&maxAvatars=" + "9" * 5000, [None]),
    ],
    ids=["not said", "limit", "no limit", "not a number", "too long"],
)
async def test_watcher_says_how_many_avatars_the_agent_may_have(
    watched: _Worker, monkeypatch: pytest.MonkeyPatch, query: str, limits: list[int | None]
) -> None:
    received: list[int | None] = []
    monkeypatch.setattr(avatar_limit, "publish", received.append)
    async with (
        TestClient(TestServer(make_app(watched))) as client,
        client.get(f"/status?watch{query}") as stream,
    ):
        await _next(stream)
    assert received == limits


async def test_state_is_not_read_without_watchers(watched: _Worker, client: TestClient[Any, Any]) -> None:
    stream = await client.get("/status?watch")
    await _next(stream)
    stream.close()
    await _until_still(watched)
    reads = watched.reads
    await asyncio.sleep(4 * status_stream.POLL_SECONDS)
    assert watched.reads == reads


async def _until_still(worker: _Worker) -> None:
    async with asyncio.timeout(2):
        while True:
            reads = worker.reads
            await asyncio.sleep(3 * status_stream.POLL_SECONDS)
            if worker.reads == reads:
                return


async def test_server_notices_a_lost_watcher_at_once(watched: _Worker) -> None:
    port = free_port()
    async with serve(watched, port):
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/status?watch") as stream:
            await _next(stream)
        await _until_still(watched)  # long before the next heartbeat, whose write would fail


async def test_excess_watcher_replaces_the_oldest(client: TestClient[Any, Any]) -> None:
    streams = [await client.get("/status?watch") for _ in range(status_stream.MAX_WATCHERS + 1)]
    for stream in streams:
        await _next(stream)
    assert await asyncio.wait_for(streams[0].content.read(), 2) == b"", "its stream ended cleanly"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(streams[1].content.readline(), 3 * status_stream.POLL_SECONDS)
    for stream in streams:
        stream.close()


async def test_watches_end_cleanly_when_the_worker_stops(watched: _Worker) -> None:
    server = TestServer(make_app(watched))
    async with TestClient(server) as client:
        stream = await client.get("/status?watch")
        await _next(stream)
        clock = asyncio.get_running_loop().time
        stopped_at = clock()
        watched.state = watched.state.model_copy(update={"calls": 0})
        await server.close()
        assert WorkerStatus.model_validate_json(await stream.content.read()).calls == 0, "the last status is sent"
        assert clock() - stopped_at < 1
