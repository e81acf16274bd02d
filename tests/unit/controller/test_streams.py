"""Status streams of workers: over real HTTP, and with silent workers in virtual time."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from agentspec import WorkerStatus
from controller.fleet import streams
from controller.fleet.fleet import Fleet
from controller.fleet.jobs import WorkerJobs
from controller.fleet.streams import (
    FIRST_REPORT_SECONDS,
    INITIAL_BACKOFF_SECONDS,
    MAX_BACKOFF_SECONDS,
    QUIET_SECONDS,
    STARTING_BACKOFF_SECONDS,
    WorkerStreams,
)
from controller.observation import Key, ObservedPod, ObservedWorker
from controller.policy.availability import START_SECONDS
from tests.unit.controller.builders import KEY, TAVUS, fleet, pod, spec, status
from tests.unit.fakes.virtualtime import VirtualLoop, now, use_loop_clock
from tests.waiting import soon

WORKER = pod("pod-1", ip="127.0.0.1")


def line(**changes: Any) -> bytes:
    return status(**changes).model_dump_json(by_alias=True).encode() + b"\n"


class RealWorker:
    """A worker's HTTP server on loopback. It sends the lines that a test sets to every watcher."""

    def __init__(self) -> None:
        self.first_line = line()
        self.watchers: list[web.StreamResponse] = []
        self.connections = 0
        self.watcher_left = asyncio.Event()
        self._closed = asyncio.Event()

    async def status(self, request: web.Request) -> web.StreamResponse:
        assert request.query_string == "watch&stages&jobs"
        self.connections += 1
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(self.first_line)
        self.watchers.append(response)
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            self.watcher_left.set()
            raise
        return response

    async def send(self, text: bytes) -> None:
        await self.watchers[-1].write(text)

    def close(self) -> None:
        self._closed.set()
        self._closed = asyncio.Event()


@asynccontextmanager
async def followed(
    monkeypatch: pytest.MonkeyPatch, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[tuple[WorkerStreams, Fleet, list[Key]]]:
    """Follow one pod whose worker is a server on loopback."""
    application = web.Application()
    application.router.add_get("/status", handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setattr(streams, "WORKER_PORT", runner.addresses[0][1])
    monkeypatch.setattr(streams, "INITIAL_BACKOFF_SECONDS", 0.01)
    made, changed = fleet(WORKER), list[Key]()
    async with aiohttp.ClientSession() as session:
        following = WorkerStreams(made, WorkerJobs(), session, changed.append, is_connected=lambda: True)
        try:
            following.follow(KEY, [WORKER])
            yield following, made, changed
        finally:
            following.cancel()
            await runner.cleanup()


def calls(made: Fleet) -> int:
    """The calls in the last reports of all workers."""
    return sum(report.status.calls for report in made.agents[KEY].reports.values())


async def test_every_line_is_recorded_and_only_changes_notify(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = RealWorker()
    async with followed(monkeypatch, worker.status) as (following, made, changed):
        await asyncio.wait_for(following.wait_first_reports(KEY), 5)
        assert set(made.agents[KEY].reports) == {"pod-1"}
        assert changed == [KEY]
        await soon(lambda: bool(worker.watchers))
        await worker.send(line())  # a heartbeat
        await worker.send(line(calls=1) + line(calls=2))
        await soon(lambda: calls(made) == 2)
        assert changed == [KEY, KEY, KEY]
        half = line(calls=3)
        await worker.send(half[:10])
        await worker.send(half[10:])
        await soon(lambda: calls(made) == 3)
        assert worker.connections == 1


async def test_closed_stream_is_reopened(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = RealWorker()
    async with followed(monkeypatch, worker.status) as (following, made, changed):
        await following.wait_first_reports(KEY)
        await soon(lambda: bool(worker.watchers))
        worker.first_line = line(calls=4)
        worker.close()
        await soon(lambda: calls(made) == 4)
        assert worker.connections == 2
        assert changed == [KEY, KEY]


async def test_invalid_status_is_logged_and_the_stream_reopened(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = RealWorker()
    worker.first_line = b'{"slots": "many"}\n'
    async with followed(monkeypatch, worker.status) as (following, made, changed):
        await asyncio.wait_for(following.wait_first_reports(KEY), 5)
        assert changed == []
        worker.first_line = line(calls=1)
        await soon(lambda: calls(made) == 1)
    logged = {record.message for record in caplog.records if record.name == "controller.fleet.streams"}
    assert logged == {"invalid worker status ignored"}


async def test_worker_that_answers_an_error_is_retried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker, refusals = RealWorker(), 0

    async def starting(request: web.Request) -> web.StreamResponse:
        nonlocal refusals
        if refusals < 2:
            refusals += 1
            return web.Response(status=503)
        return await worker.status(request)

    async with followed(monkeypatch, starting) as (_, made, _):
        await soon(lambda: bool(made.agents[KEY].reports))
        assert refusals == 2
    assert [record for record in caplog.records if record.name == "controller.fleet.streams"] == []


async def test_stream_of_a_deleted_pod_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = RealWorker()
    async with followed(monkeypatch, worker.status) as (following, _, _):
        await following.wait_first_reports(KEY)
        await soon(lambda: bool(worker.watchers))
        following.follow(KEY, [])
        await asyncio.wait_for(worker.watcher_left.wait(), 5)
        await following.wait_first_reports(KEY)  # does not wait
        assert worker.connections == 1


@asynccontextmanager
async def verified(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Awaitable[web.Response]]
) -> AsyncIterator[tuple[Fleet, list[Key]]]:
    """Verify one worker that has reported, and answers requests without `watch` as the test sets."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await worker.status(request) if request.query_string else await answer()

    worker = RealWorker()
    async with followed(monkeypatch, handle) as (following, made, changed):
        await asyncio.wait_for(following.wait_first_reports(KEY), 5)
        monkeypatch.setattr(streams, "QUIET_SECONDS", -1.0)
        changed.clear()
        following.verify(KEY)
        following.verify(KEY)
        (stream,) = following._streams[KEY].values()
        assert stream.verification is not None
        await asyncio.wait_for(stream.verification, 5)
        yield made, changed


def current(made: Fleet) -> list[WorkerStatus | None]:
    return [seen.status for seen in made.agents[KEY].workers(time.monotonic())]


async def test_worker_that_answers_its_verification_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def answer() -> web.Response:
        asked.append(1)
        return web.Response(body=line(calls=3))

    async with verified(monkeypatch, answer) as (made, changed):
        assert current(made) == [status(calls=3)]
        assert changed == [KEY]
        assert len(asked) == 1, "one verification at a time"


def hanging(made: Fleet) -> list[str]:
    return [seen.pod.name for seen in made.agents[KEY].workers(time.monotonic()) if seen.hangs_idle]


@pytest.mark.parametrize("fault", ["hangs", "error", "invalid"])
async def test_worker_that_fails_its_verification_is_silent(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(streams, "_VERIFY_TIMEOUT", aiohttp.ClientTimeout(total=0.2))

    async def answer() -> web.Response:
        if fault == "hangs":
            await asyncio.Event().wait()
        return web.Response(status=500) if fault == "error" else web.Response(body=b"{")

    async with verified(monkeypatch, answer) as (made, changed):
        assert current(made) == [None]
        assert changed == [KEY]
        assert hanging(made) == (["pod-1"] if fault == "hangs" else [])
        made.record_status(KEY, "pod-1", status(), time.monotonic())
        assert current(made) == [status()], "it reports again"
        assert hanging(made) == []


class Session:
    """A session that records the requests and answers as the test sets for each pod."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, str]] = []
        self.urls: list[str] = []
        self.answers: dict[str, list[bytes]] = {}
        """Lines by address. A pod without an entry refuses the connection."""
        self.refusing = False
        """Whether a pod without an entry refuses as one whose process has ended."""
        self.unreachable = False
        """Whether a connection to a pod without an entry times out."""
        self.hanging: set[str] = set()
        """Addresses that accept the connection and send nothing."""

    def get(self, url: str, *, timeout: aiohttp.ClientTimeout, headers: object = None) -> "Session.Answer":
        assert timeout.total is not None or None not in (timeout.connect, timeout.sock_read)
        address = url.removeprefix("http://").partition("/")[0].rpartition(":")[0]
        self.urls.append(url)
        self.requests.append((asyncio.get_running_loop().time(), address))
        return Session.Answer(self, address)

    class Answer:
        def __init__(self, session: "Session", address: str) -> None:
            self._session, self._address = session, address
            self.content = self._lines()

        async def __aenter__(self) -> "Session.Answer":
            if self._address in self._session.hanging:
                await asyncio.Event().wait()
            if self._address not in self._session.answers and self._session.refusing:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
            if self._address not in self._session.answers and self._session.unreachable:
                raise aiohttp.ConnectionTimeoutError
            if self._address not in self._session.answers:
                raise aiohttp.ClientConnectionError
            return self

        async def __aexit__(self, *_: object) -> None: ...

        def raise_for_status(self) -> None: ...

        async def _lines(self) -> AsyncIterator[bytes]:
            for text in self._session.answers[self._address]:
                yield text
            await asyncio.Event().wait()


async def test_pod_with_a_new_address_is_followed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = RealWorker()
    async with followed(monkeypatch, worker.status) as (following, made, _):
        await asyncio.wait_for(following.wait_first_reports(KEY), 5)
        # A node that was started anew gives its pods other addresses, and theirs to others.
        following.follow(KEY, [pod("pod-1", ip="127.0.0.2")])
        await asyncio.wait_for(worker.watcher_left.wait(), 5)
        assert made.agents[KEY].reports, "its last report still counts"


class Scene:
    """Streams over the fake session."""

    def __init__(self) -> None:
        self.session, self.changed = Session(), list[Key]()
        self.fleet = fleet()
        session = cast(aiohttp.ClientSession, self.session)
        self.streams = WorkerStreams(self.fleet, WorkerJobs(), session, self.changed.append, is_connected=lambda: True)

    def follow(self, *pods: ObservedPod) -> None:
        self.fleet.set_pods(KEY, pods)
        self.streams.follow(KEY, pods)


@pytest.fixture
async def scene(virtual_time: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Streams of an agent without pods, in virtual time."""
    use_loop_clock(monkeypatch, streams)
    made = Scene()
    yield made
    made.streams.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_each_running_pod_with_an_address_has_one_stream(scene: Scene) -> None:
    pods = [pod("runs", ip="10.0.0.1"), pod("waits", ip="", running=True), pod("starts", running=False)]
    scene.session.answers["10.0.0.1"] = [line()]
    for _ in range(3):
        scene.follow(*pods)
        await scene.streams.wait_first_reports(KEY)
    await asyncio.sleep(60)
    assert scene.session.requests == [(0.0, "10.0.0.1")]


async def test_ipv4_and_ipv6_addresses(scene: Scene) -> None:
    scene.follow(pod("new", ip="fd00::1"))
    await scene.streams.wait_first_reports(KEY)
    assert scene.session.requests == [(0.0, "[fd00::1]")]


async def test_workers_with_an_avatar_learn_the_limit_and_its_changes(scene: Scene) -> None:
    limits = [{}, {"maxSessions": 5}, {"maxSessions": 6}, {}]
    for limit in limits:
        scene.fleet.declare(KEY, "uid-ava", spec(avatar=TAVUS | limit))
        for _ in range(2):  # an unchanged limit changes nothing
            scene.follow(pod("pod-1", ip="10.0.0.1"))
            await asyncio.sleep(0)
    assert [url.partition("?")[2] for url in scene.session.urls] == [
        f"watch&stages&jobs&maxAvatars={limit}" for limit in ("", 5, 6, "")
    ]


async def test_unreachable_worker_is_retried_with_backoff(scene: Scene) -> None:
    scene.follow(pod())
    await asyncio.sleep(300)
    times = [at for at, _ in scene.session.requests]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[0] == pytest.approx(INITIAL_BACKOFF_SECONDS)
    assert waits[1] == pytest.approx(2 * INITIAL_BACKOFF_SECONDS)
    starting = [wait for at, wait in zip(times, waits, strict=False) if at < START_SECONDS - STARTING_BACKOFF_SECONDS]
    assert (starting[-1], max(starting)) == pytest.approx((STARTING_BACKOFF_SECONDS,) * 2), (
        "calls may wait for its slots"
    )
    assert waits[-1] == pytest.approx(MAX_BACKOFF_SECONDS)
    assert waits == pytest.approx(sorted(waits))
    scene.session.answers["10.0.0.1"] = [line(calls=1)]
    await asyncio.sleep(MAX_BACKOFF_SECONDS)
    assert calls(scene.fleet) == 1


async def test_pod_that_becomes_ready_is_contacted_at_once(scene: Scene) -> None:
    scene.follow(pod(ready=False))
    await asyncio.sleep(100)
    scene.session.answers["10.0.0.1"] = [line(calls=1)]
    scene.follow(pod(ready=False))
    await asyncio.sleep(0)
    assert calls(scene.fleet) == 0
    scene.follow(pod(ready=True))
    await asyncio.sleep(0.01)
    assert calls(scene.fleet) == 1
    count = len(scene.session.requests)
    for ready in (True, False, True):
        scene.follow(pod(ready=ready))
        await asyncio.sleep(60)
    assert len(scene.session.requests) == count, "a worker that reports is not contacted again"


async def test_first_report_or_failure_is_awaited_with_a_limit(scene: Scene) -> None:
    scene.session.answers["10.0.0.1"] = [line()]
    scene.follow(pod("speaks", ip="10.0.0.1"), pod("refuses", ip="10.0.0.2"))
    await scene.streams.wait_first_reports(KEY)
    assert now() == 0.0
    assert set(scene.fleet.agents[KEY].reports) == {"speaks"}
    scene.session.hanging = {"10.0.0.3", "10.0.0.4"}
    silent = [pod("hangs", ip="10.0.0.3"), pod("hangs-too", ip="10.0.0.4")]
    scene.follow(pod("speaks", ip="10.0.0.1"), *silent)
    await scene.streams.wait_first_reports(KEY)
    assert now() == FIRST_REPORT_SECONDS, "in parallel"


async def test_silent_worker_delays_one_reconcile_only(scene: Scene) -> None:
    scene.session.hanging = {"10.0.0.1", "10.0.0.2"}
    scene.follow(pod("hangs"))
    await asyncio.sleep(FIRST_REPORT_SECONDS / 2)
    await scene.streams.wait_first_reports(KEY)
    assert now() == FIRST_REPORT_SECONDS, "counted from the first contact"
    for _ in range(30):
        scene.follow(pod("hangs"))
        await scene.streams.wait_first_reports(KEY)
    assert now() == FIRST_REPORT_SECONDS
    scene.follow(pod("hangs"), pod("another", ip="10.0.0.2"))
    await scene.streams.wait_first_reports(KEY)
    assert now() == 2 * FIRST_REPORT_SECONDS, "each worker has its own limit"


async def test_agent_without_workers_does_not_wait(scene: Scene) -> None:
    scene.follow()
    await scene.streams.wait_first_reports(KEY)
    await scene.streams.wait_first_reports(Key("shop", "idle"))
    assert (now(), scene.session.requests) == (0.0, [])


async def test_only_quiet_workers_with_free_slots_are_verified(scene: Scene) -> None:
    scene.session.answers["10.0.0.1"] = [line()]
    scene.follow(pod(), pod("quiet", ip="10.0.0.2"), pod("full", ip="10.0.0.3"))
    await scene.streams.wait_first_reports(KEY)
    for pod_name, calls_there in (("pod-1", 0), ("quiet", 3), ("full", 4)):
        scene.fleet.record_status(KEY, pod_name, status(calls=calls_there), now())
    await asyncio.sleep(QUIET_SECONDS + 2)  # between two attempts to open the streams
    scene.fleet.record_status(KEY, "pod-1", status(), now())
    scene.session.requests.clear()
    scene.streams.verify(KEY)
    await asyncio.sleep(0.01)
    assert [address for _, address in scene.session.requests] == ["10.0.0.2"], "one reports, and one is full"
    assert [seen.pod.name for seen in scene.fleet.agents[KEY].workers(now()) if seen.status is None] == ["quiet"]


async def verified_after_a_pause(scene: Scene) -> ObservedWorker:
    """Let a worker report once, and verify it later."""
    scene.follow(pod())
    scene.fleet.record_status(KEY, "pod-1", status(), now())
    await asyncio.sleep(QUIET_SECONDS + 1)
    scene.streams.verify(KEY)
    await asyncio.sleep(0.01)
    (seen,) = scene.fleet.agents[KEY].workers(now())
    return seen


async def test_worker_without_a_connection_is_silent_and_may_not_hang(scene: Scene) -> None:
    scene.session.unreachable = True
    seen = await verified_after_a_pause(scene)
    assert (seen.status, seen.hangs_idle) == (None, False), "its network may have failed, and it may have calls"


async def test_restarting_worker_is_not_silent(scene: Scene) -> None:
    scene.session.refusing = True
    assert (await verified_after_a_pause(scene)).status == status()


async def test_cancel_ends_every_stream(scene: Scene) -> None:
    scene.session.hanging = {"10.0.0.1"}
    scene.session.answers["10.0.0.2"] = [line()]
    scene.follow(pod("one"), pod("two", ip="10.0.0.2"), pod("three", ip="10.0.0.3"))
    await asyncio.sleep(1)
    scene.streams.cancel()
    count = len(scene.session.requests)
    await asyncio.sleep(60)
    assert len(scene.session.requests) == count
