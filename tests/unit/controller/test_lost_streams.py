"""Lost workers over real connections: a process that is killed, hangs, restarts or is away for a moment."""

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from agentspec.wire import JobReport, JobState, WorkerCalls, render
from controller.fleet import streams
from controller.fleet.contact import KEEPALIVE, contact, socket_with_keepalive
from controller.fleet.jobs import WorkerJobs
from controller.fleet.streams import WorkerStreams
from controller.policy import lost_workers
from controller.policy.lost_workers import Contact, LossReason
from tests.unit.controller.builders import KEY, fleet, pod, spec, status
from tests.waiting import soon

WORKER = pod("pod-1", ip="127.0.0.1")
JOB = JobReport(job_id="AJ_1", room="ava-1", state=JobState.JOINED)
ENDED = JOB.model_copy(update={"state": JobState.ENDED})
HELD = WorkerCalls(agent="shop/ava", worker="pod-1", jobs=[JOB])
LOST = HELD.model_copy(update={"lost": True})


class Process:
    """A worker process: an HTTP server that sends the lines that a test sets."""

    def __init__(self) -> None:
        self.port = 0
        self.jobs, self.worker_id = [JOB], "AW_1"
        self.hangs = False
        """Whether it answers no request."""
        self.requests = 0
        self.attempts = 0
        """Connections without a request."""
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except ConnectionError:
            self.attempts += 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await reader.readline():
            self.attempts += 1
            return writer.transport.abort()
        self._writers.append(writer)
        self.requests += 1
        if not self.hangs:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n")
            self.send()
        return None

    def send(self) -> None:
        """Send the status to the newest reader."""
        line = render(status(jobs=self.jobs, worker_id=self.worker_id)) + "\n"
        self._writers[-1].write(line.encode())

    def cut(self) -> None:
        """Cut all connections, as a network does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def kill(self) -> None:
        """End as SIGKILL ends a process: the kernel closes all its sockets."""
        if self._server is not None:
            self._server.close()
        self.cut()


class Scene:
    """A worker with a job whose status is streamed, and the events that follow."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.process, self.fleet = Process(), fleet(WORKER)
        self.losses: list[LossReason] = []
        self.events: list[WorkerCalls] = []
        jobs = WorkerJobs(self.losses.append)
        jobs.listeners.add(self.events.append)
        self.is_connected = True
        self.streams = WorkerStreams(
            self.fleet, jobs, session, lambda key: None, is_connected=lambda: self.is_connected
        )

    async def told(self, *events: WorkerCalls) -> None:
        """Wait for exactly these events after the first one."""
        await soon(lambda: len(self.events) > len(events))
        assert self.events[1:] == list(events)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    async with aiohttp.ClientSession() as session:
        made = Scene(session)
        await made.process.start()
        monkeypatch.setattr(streams, "WORKER_PORT", made.process.port)
        made.streams.follow(KEY, [WORKER])
        await soon(lambda: made.events == [HELD])
        yield made
        made.streams.cancel()
        made.process.kill()


async def test_killed_worker_is_lost_at_once(scene: Scene) -> None:
    killed = time.monotonic()
    scene.process.kill()
    await scene.told(LOST)
    assert scene.losses == [LossReason.PROCESS_ENDED], "a refused connection tells"
    print(f"told {1000 * (time.monotonic() - killed):.1f} ms after the end")


async def test_stream_that_is_back_at_once_loses_nothing(scene: Scene) -> None:
    scene.process.cut()
    await soon(lambda: scene.process.requests == 2)
    scene.process.jobs = [ENDED]
    await soon(lambda: scene.process._writers)
    scene.process.send()
    await scene.told(WorkerCalls(agent="shop/ava", worker="pod-1", jobs=[ENDED]))
    assert scene.losses == []


async def test_new_process_at_once_means_a_lost_one(scene: Scene) -> None:
    scene.process.jobs, scene.process.worker_id = [], ""
    scene.process.cut()
    await scene.told(LOST)
    assert scene.losses == [LossReason.PROCESS_RESTARTED]


async def test_worker_that_hangs_is_not_lost_until_it_is_killed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call processes continue. The kernel accepts connections for it."""
    monkeypatch.setattr(streams, "_TIMEOUT", aiohttp.ClientTimeout(total=None, connect=2, sock_read=0.05))
    monkeypatch.setattr(streams, "MISSING_SECONDS", 0.1)
    monkeypatch.setattr(lost_workers, "MISSING_SECONDS", 0.1)
    scene.process.hangs = True
    scene.process.cut()
    await soon(lambda: scene.process.requests >= 4)
    assert scene.events == [HELD]
    scene.process.kill()
    await scene.told(LOST)


@pytest.mark.parametrize("jobs", [[], [ENDED]], ids=["no jobs", "ended jobs"])
async def test_worker_that_ended_after_its_jobs_is_not_lost(scene: Scene, jobs: list[JobReport]) -> None:
    scene.process.jobs = jobs
    scene.process.send()
    await soon(lambda: len(scene.events) == 2)
    scene.process.kill()
    scene.streams.drop(KEY, [])
    assert scene.losses == []
    assert not any(event.lost for event in scene.events)


class Unreachable:
    """Stands for a pod to which no connection is possible."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.result = Contact.NONE
        self.attempts: list[float] = []
        monkeypatch.setattr(streams, "contact", self)

    async def __call__(self, address: str, port: int, seconds: float) -> Contact:
        assert address == "127.0.0.1" and seconds <= streams.CONTACT_SECONDS
        self.attempts.append(time.monotonic())
        return self.result


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Unreachable:
    monkeypatch.setattr(streams, "CONTACT_RETRY_SECONDS", 0.01)
    for module in (streams, lost_workers):
        monkeypatch.setattr(module, "MISSING_SECONDS", 0.2)
    return Unreachable(monkeypatch)


async def test_unreachable_worker_is_lost_after_the_limit(scene: Scene, unreachable: Unreachable) -> None:
    cut = time.monotonic()
    scene.process.kill()
    await scene.told(LOST)
    assert scene.losses == [LossReason.UNREACHABLE]
    assert time.monotonic() - cut >= 0.2
    assert len(unreachable.attempts) > 1


async def test_no_worker_is_lost_while_the_controller_is_cut_off(scene: Scene, unreachable: Unreachable) -> None:
    scene.is_connected = False
    cut = time.monotonic()
    scene.process.kill()
    await soon(lambda: unreachable.attempts and unreachable.attempts[-1] - cut > 0.3)
    assert scene.losses == []
    scene.is_connected = True
    await scene.told(LOST)
    assert scene.losses == [LossReason.UNREACHABLE]


async def test_worker_that_is_away_for_a_moment_is_not_lost(
    scene: Scene, unreachable: Unreachable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (streams, lost_workers):
        monkeypatch.setattr(module, "MISSING_SECONDS", 60.0)
    scene.process.cut()
    await soon(lambda: len(unreachable.attempts) > 2)
    unreachable.result = Contact.ACCEPTED
    await soon(lambda: scene.process.requests == 2)
    assert (scene.events, scene.losses) == ([HELD], [])


async def test_lost_worker_that_comes_back_is_told_again(scene: Scene, unreachable: Unreachable) -> None:
    scene.process.cut()
    await scene.told(LOST, HELD)
    assert scene.losses == [LossReason.UNREACHABLE]


async def test_worker_without_jobs_is_not_searched_for(scene: Scene, unreachable: Unreachable) -> None:
    scene.process.jobs = []
    scene.process.send()
    await soon(lambda: len(scene.events) == 2)
    scene.process.cut()
    await soon(lambda: scene.process.requests == 2)
    assert unreachable.attempts == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (None, LossReason.POD_GONE),
        ({"running": False, "ended": True}, LossReason.POD_GONE),
        ({"ip": "127.0.0.2"}, LossReason.PROCESS_ENDED),
    ],
    ids=["deleted by force", "containers ended", "new sandbox"],
)
async def test_worker_is_lost_with_its_pod(scene: Scene, changes: dict[str, Any] | None, reason: LossReason) -> None:
    pods = [] if changes is None else [pod("pod-1", **{"ip": "127.0.0.1", **changes})]
    scene.streams.drop(KEY, pods)
    scene.streams.drop(KEY, pods)
    assert scene.events == [HELD, LOST]
    assert scene.losses == [reason]


async def test_changed_limit_of_avatars_loses_nothing(scene: Scene) -> None:
    tavus = {"faceID": "face", "palID": "pal", "credentialsSecretRef": {"name": "tavus"}}
    scene.fleet.declare(KEY, "uid-ava", spec(avatar={"provider": "Tavus", "tavus": tavus}))
    scene.streams.follow(KEY, [WORKER])
    await soon(lambda: scene.process.requests == 2)
    assert scene.losses == []


async def test_shutdown_loses_nothing(scene: Scene) -> None:
    scene.streams.cancel()
    scene.process.kill()
    await asyncio.sleep(0)
    assert scene.events == [HELD]


async def test_contact_tells_a_process_from_none(scene: Scene) -> None:
    port = scene.process.port
    scene.process.hangs = True
    assert await contact("127.0.0.1", port, 5) is Contact.ACCEPTED
    await soon(lambda: scene.process.attempts == 1)
    scene.process.kill()
    assert await contact("127.0.0.1", port, 5) is Contact.REFUSED


@pytest.mark.parametrize("fault", ["no answer", "no route"])
async def test_contact_without_an_answer_is_none(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    async def open_connection(address: str, port: int) -> None:
        if fault == "no route":
            raise OSError(errno.EHOSTUNREACH, "no route to host")
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    assert await contact("10.0.0.1", 8080, 0.01) is Contact.NONE


async def test_connections_to_workers_have_keepalive_probes() -> None:
    """A node that is lost closes no connection."""
    with socket_with_keepalive((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for option, value in KEEPALIVE:
            assert made.getsockopt(socket.IPPROTO_TCP, option) == value
