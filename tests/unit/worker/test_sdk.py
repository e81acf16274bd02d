"""The private parts of livekit-agents that worker.sdk relies on: each test fails when the SDK changes one.

The tests run the installed SDK: its server against a LiveKit on this machine, its jobs in threads, its speech
recognition with a replaced request, its outputs with a room that is not connected.
"""

import asyncio
import inspect
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    APIConnectOptions,
    JobContext,
    JobExecutorType,
    JobRequest,
    __version__,
    utils,
)
from livekit.agents.inference.eot.languages import ThresholdOptions
from livekit.agents.language import LanguageCode
from livekit.agents.voice.avatar import DataStreamAudioOutput
from livekit.agents.voice.io import AgentOutput, AudioOutput
from livekit.plugins import openai, tavus

from tests.unit.worker import sdk_jobs
from tests.unit.worker.fake_livekit import WORKER_ID, FakeLiveKit, fake_livekit
from tests.unit.worker.fakes import FakeRoom, FakeSink, FakeWrapper
from tests.waiting import eventually, eventually_in_thread, soon
from worker import sdk
from worker.call.watched_output import WatchedOutput
from worker.server.job_limits import MIB, JobLimits, JobLimitWatch, Limit, private_memory
from worker.server.worker import Worker
from worker.stages import TimeLimitedSTT

Entrypoint = Callable[[JobContext], Awaitable[None]]
ONE_ATTEMPT = APIConnectOptions(max_retry=0, retry_interval=0, timeout=1)
SDK_VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "SSL_CERT_FILE")
"""Environment variables that AgentServer.run sets."""


class RecordingServer(sdk.Server):
    """Records what the SDK's own code calls."""

    def __init__(self, url: str, entrypoint: Entrypoint, executor: JobExecutorType) -> None:
        self.load = 0.0
        super().__init__(
            ws_url=url,
            api_key="key",
            api_secret="secret-of-at-least-thirty-two-characters",
            job_executor_type=executor,
            num_idle_processes=1,
            load_threshold=float("inf"),
            load_fnc=lambda: self.load,
            host="127.0.0.1",
            port=0,
        )
        self.closed: list[tuple[str, str, bool]] = []
        self.losses = 0
        self.requested_at = 0.0
        self.rtc_session(entrypoint, agent_name="ornina", on_request=self.accept)

    async def accept(self, request: JobRequest) -> None:
        self.requested_at = time.time()
        await request.accept(name="ornina")

    def on_process_closed(self, job_id: str, room: str, *, failed: bool) -> None:
        self.closed.append((job_id, room, failed))

    def on_registration_lost(self) -> None:
        self.losses += 1


async def leave_at_once(context: JobContext) -> None:
    """A job that ends as soon as it starts."""
    context.shutdown("done")


@pytest.fixture
async def livekit(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeLiveKit]:
    for name in SDK_VARIABLES:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    async with fake_livekit() as server:
        yield server


async def _has_connected(livekit: FakeLiveKit) -> bool:
    return livekit.connections > 0


@asynccontextmanager
async def running(
    livekit: FakeLiveKit, entrypoint: Entrypoint = leave_at_once, executor: JobExecutorType = JobExecutorType.THREAD
) -> AsyncIterator[RecordingServer]:
    """A server that is connected to `livekit` within the context."""
    server = RecordingServer(livekit.url, entrypoint, executor)
    assert (server.registered, server.worker_id, server.running_job_ids()) == (False, "", [])
    assert server.idle_processes() == 0
    server.keep_idle_processes(0)  # there is nothing to close yet
    task = asyncio.create_task(server.run())
    try:
        await eventually(
            partial(_has_connected, livekit), "the first call process is ready and the server has connected"
        )
        yield server
    finally:
        # The SDK never finishes closing a thread that is not initialised yet (livekit-agents 1.8.9,
        # ipc/job_thread_executor.py), and it starts one whenever a job takes the idle one.
        server.keep_idle_processes(0)
        await eventually_in_thread(lambda: not server._proc_pool._spawn_tasks, "the SDK starts no thread", 60)
        await server.aclose()
        with suppress(asyncio.CancelledError):
            await task


def test_installed_sdk_is_the_version_that_the_module_names() -> None:
    assert f"livekit-agents {__version__} " in (sdk.__doc__ or "")


async def test_server_knows_its_registration_and_its_end(livekit: FakeLiveKit) -> None:
    async with running(livekit) as server:
        await soon(lambda: server.registered)
        assert server.worker_id == WORKER_ID
        assert [registration.agent_name for registration in livekit.registrations] == ["ornina"]
        await livekit.close_connections()
        await soon(lambda: server.losses)
        await soon(lambda: len(livekit.registrations) == 2)
        await soon(lambda: server.registered)
    assert server.registered is False


async def test_connection_that_answers_no_ping_is_lost(livekit: FakeLiveKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "PING_SECONDS", 0.2)
    livekit.answers_pings = False
    async with running(livekit) as server:
        await soon(lambda: livekit.registrations)
        await soon(lambda: server.losses)
        livekit.answers_pings = True
        await soon(lambda: len(livekit.registrations) >= 2)


async def test_lost_registrations_are_retried_with_backoff(
    livekit: FakeLiveKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    livekit.accepts_registrations = False
    monkeypatch.setattr(sdk, "_MAX_BACKOFF_SECONDS", 0.15)
    async with running(livekit):
        await soon(lambda: livekit.connections >= 2)
        started, connections = asyncio.get_running_loop().time(), livekit.connections
        await soon(lambda: livekit.connections >= connections + 3)
        assert asyncio.get_running_loop().time() - started >= 3 * 0.15 - 0.05


@pytest.fixture
async def offline() -> RecordingServer:
    """A server that does not run."""
    return RecordingServer("ws://livekit.test", leave_at_once, JobExecutorType.THREAD)


async def _pauses(server: RecordingServer, attempts: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses between `attempts` connections of a server whose registrations are rejected."""
    pauses: list[float] = []
    connections = 0

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def connect(*_: object, **__: object) -> SimpleNamespace:
        nonlocal connections
        connections += 1
        return SimpleNamespace()

    async def keep_connecting(server: Any) -> None:  # noqa: ANN401
        for _ in range(attempts):
            await server._http_session.ws_connect("ws://livekit.test")

    server._http_session = cast(Any, SimpleNamespace(ws_connect=connect))
    monkeypatch.setattr(AgentServer, "_connection_task", keep_connecting)
    monkeypatch.setattr(asyncio, "sleep", pause)
    await server._connection_task()
    assert connections == attempts
    return pauses


async def test_backoff_doubles_up_to_ten_seconds(offline: RecordingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _pauses(offline, 7, monkeypatch) == [1, 2, 4, 8, 10, 10]


async def test_server_retries_after_thousands_of_failures(
    offline: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline._unstable_connections = 5000
    assert await _pauses(offline, 1, monkeypatch) == [10]


@pytest.mark.parametrize(("seconds", "unstable"), [(5.0, 3), (15.0, 0)], ids=["short", "stable"])
async def test_stable_registration_resets_the_backoff(
    offline: RecordingServer, monkeypatch: pytest.MonkeyPatch, seconds: float, unstable: int
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    async def serve(server: RecordingServer, _: object) -> None:
        nonlocal now
        assert server.registered
        now += seconds
        raise ConnectionError

    monkeypatch.setattr(AgentServer, "_run_ws", serve)
    offline._unstable_connections = 3
    with pytest.raises(ConnectionError):
        await offline._run_ws(cast(Any, None))
    assert (offline.registered, offline.losses, offline._unstable_connections) == (False, 1, unstable)


async def test_load_is_not_reported_before_registration(
    offline: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[float] = []

    async def report() -> None:
        reported.append(offline._worker_load)

    monkeypatch.setattr(offline, "_update_worker_status", report)
    offline._worker_load, offline.load = 0.0, 0.345
    await offline._invoke_load_fnc()
    assert reported == []
    offline.registered = True
    await offline._invoke_load_fnc()
    await offline._invoke_load_fnc()
    assert reported == [0.345]


async def test_changed_load_is_reported_at_once_and_only_once(
    livekit: FakeLiveKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livekit.agents.worker.UPDATE_STATUS_INTERVAL", 1000.0)  # the SDK's own reports
    async with running(livekit) as server:
        await soon(lambda: livekit.loads)
        reported = len(livekit.loads)
        server.load = 0.345
        await soon(lambda: len(livekit.loads) > reported)
        await server._invoke_load_fnc()
        assert livekit.loads[reported:] == [pytest.approx(0.345)]


async def test_job_is_counted_while_it_runs_and_reported_when_it_ends(livekit: FakeLiveKit) -> None:
    may_end = asyncio.Event()
    offered_at: list[float | None] = []
    loop = asyncio.get_running_loop()

    async def wait_and_leave(context: JobContext) -> None:
        offered_at.append(sdk.offered_at(context))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(may_end.wait(), loop))
        context.shutdown("done")

    async with running(livekit, wait_and_leave) as server:
        await soon(lambda: server.registered)
        before = time.time()
        await livekit.offer("AJ_1", "ornina-1")
        await soon(lambda: offered_at)
        assert livekit.available == {"AJ_1": True}, "an infinite load threshold never declines a job"
        assert server.running_job_ids() == ["AJ_1"]
        assert server.closed == []
        may_end.set()
        await soon(lambda: server.closed)
        assert server.closed == [("AJ_1", "ornina-1", False)]
        await soon(lambda: server.running_job_ids() == [])
    (offered,) = offered_at
    assert offered is not None and before <= offered < server.requested_at


async def test_idle_processes_follow_the_number_that_is_set(livekit: FakeLiveKit) -> None:
    async with running(livekit) as server:
        await soon(lambda: server.registered)
        await soon(lambda: len(server._proc_pool.processes) == 1)
        await soon(lambda: server.idle_processes() == 1)
        server.keep_idle_processes(0)
        await livekit.offer("AJ_1", "ornina-1")
        await soon(lambda: server.closed)
        assert server.idle_processes() == 0
        await soon(lambda: server._proc_pool.processes == [])
        await server._invoke_load_fnc()
        assert server._proc_pool.target_idle_processes == 0, "the SDK leaves the number alone"
        server.keep_idle_processes(1)
        await soon(lambda: len(server._proc_pool.processes) == 1)


async def test_killed_call_process_is_reported_as_failed(livekit: FakeLiveKit) -> None:
    async with running(livekit, sdk_jobs.die, executor=JobExecutorType.PROCESS) as server:
        await soon(lambda: server.registered)
        await livekit.offer("AJ_1", "ornina-1")
        # A real process starts and is killed, which takes seconds on a busy machine.
        await eventually_in_thread(lambda: server.closed, "the killed call process is reported", 60)
        assert server.closed == [("AJ_1", "ornina-1", True)]


async def _offer(livekit: FakeLiveKit, server: RecordingServer, *jobs: str) -> None:
    """Offer jobs, one after the other, until each has a process."""
    await eventually_in_thread(lambda: server.registered, "the server has registered", 60)
    for number, job in enumerate(jobs, start=1):
        await livekit.offer(job, f"ornina-{number}")
        await eventually_in_thread(lambda job=job: job in server.running_job_ids(), f"{job} runs", 60)  # type: ignore[misc]


async def test_ended_job_closes_itself_and_others_continue(livekit: FakeLiveKit) -> None:
    async with running(livekit, sdk_jobs.stay, executor=JobExecutorType.PROCESS) as server:
        await _offer(livekit, server, "AJ_1", "AJ_2")
        first, second = server.running_jobs()
        assert (first.id, first.room, second.id, second.room) == ("AJ_1", "ornina-1", "AJ_2", "ornina-2")
        await server.end_job("AJ_1", seconds=60)
        await soon(lambda: server.closed)
        assert server.closed == [("AJ_1", "ornina-1", False)]
        assert server.running_jobs() == [second]
        await server.end_job("AJ_1", seconds=60)  # it has ended already
        await server.end_job("AJ_2", seconds=0)
        await soon(lambda: len(server.closed) == 2)
        assert server.closed[1] == ("AJ_2", "ornina-2", True), "killed at once"


async def test_job_that_hangs_is_killed(livekit: FakeLiveKit) -> None:
    async with running(livekit, sdk_jobs.hang, executor=JobExecutorType.PROCESS) as server:
        await _offer(livekit, server, "AJ_1")
        await server.end_job("AJ_1", seconds=0.5)
        await soon(lambda: server.closed)
        assert server.closed == [("AJ_1", "ornina-1", True)]


async def test_only_the_call_process_that_grows_is_killed(livekit: FakeLiveKit) -> None:
    """Runs the watch of the jobs' limits with real processes and their real memory."""
    async with running(livekit, sdk_jobs.grow, executor=JobExecutorType.PROCESS) as server:

        async def kill(job: sdk.RunningJob, limit: Limit) -> None:
            assert limit is Limit.MEMORY
            await server.end_job(job.id, seconds=0)

        await _offer(livekit, server, "AJ_1", "AJ_2")
        growing, other = server.running_jobs()
        await eventually_in_thread(lambda: private_memory(growing.pid) > 192 * MIB, "the job has grown", 60)
        limits = JobLimits(seconds=3600, memory=private_memory(other.pid) + 96 * MIB)
        await JobLimitWatch(limits, server.running_jobs, kill).check()
        await soon(lambda: server.closed)
        assert server.closed == [("AJ_1", sdk_jobs.GROWING_ROOM, True)]
        assert server.running_jobs() == [other]


async def test_surplus_idle_processes_are_closed(livekit: FakeLiveKit) -> None:
    async with running(livekit) as server:
        await soon(lambda: server.idle_processes() == 1)
        server.keep_idle_processes(0, starting=1)
        assert server.idle_processes() == 1
        server.keep_idle_processes(0)
        assert server.idle_processes() == 0
        await soon(lambda: not server._proc_pool.processes)
        server.keep_idle_processes(0)  # there is none


async def _shutdown_reason(livekit: FakeLiveKit, end: Callable[[JobContext], None]) -> str:
    """Return the reason that shutdown callbacks of a job get; `end` ends the job."""
    reasons: list[str] = []

    async def entrypoint(context: JobContext) -> None:
        async def on_shutdown(reason: str) -> None:
            reasons.append(reason)

        context.add_shutdown_callback(on_shutdown)
        end(context)

    async with running(livekit, entrypoint) as server:
        await soon(lambda: server.registered)
        await livekit.offer("AJ_1", "ornina-1")
        await soon(lambda: server.closed)
    (reason,) = reasons
    return reason


async def test_shutdown_reason_of_a_disconnected_room(livekit: FakeLiveKit) -> None:
    def disconnect(context: JobContext) -> None:
        context.room.emit("disconnected", rtc.DisconnectReason.ROOM_DELETED)

    assert await _shutdown_reason(livekit, disconnect) == sdk.ROOM_DISCONNECTED


async def test_shutdown_reason_of_a_crashed_job(livekit: FakeLiveKit) -> None:
    def crash(_: JobContext) -> None:
        raise RuntimeError("bug")

    assert await _shutdown_reason(livekit, crash) == sdk.JOB_CRASHED


@pytest.mark.parametrize(("language", "known"), [("ar", True), ("en", True), ("sw", False), ("ar-SY", False)])
def test_local_turn_detection_has_a_threshold_of_its_own(language: str, known: bool) -> None:
    thresholds = ThresholdOptions("turn-detector-v1-mini")
    assert sdk.has_local_turn_detection(language) is known
    assert (language in thresholds.thresholds) is known
    assert thresholds.supports(LanguageCode("sw")), "it answers for any language, with the English threshold"


async def test_room_output_publishes_one_track_and_waits_for_a_subscriber(monkeypatch: pytest.MonkeyPatch) -> None:
    subscribed = asyncio.Event()
    published: list[tuple[str, rtc.TrackPublishOptions]] = []

    class FakeTrackPublication:
        sid = "TR_1"

        async def wait_for_subscription(self) -> None:
            await subscribed.wait()

    async def publish_track(track: rtc.LocalAudioTrack, options: rtc.TrackPublishOptions) -> FakeTrackPublication:
        published.append((track.name, options))
        return FakeTrackPublication()

    room = cast(Any, SimpleNamespace(local_participant=SimpleNamespace(publish_track=publish_track)))
    output = sdk.make_room_audio_output(room, sample_rate=24000, track_name="agent")
    publishing = asyncio.create_task(output.start())
    waiting = asyncio.create_task(output.wait_for_subscription())
    await soon(lambda: published)
    assert (published[0][0], published[0][1].source) == ("agent", rtc.TrackSource.SOURCE_MICROPHONE)
    assert not publishing.done() and not waiting.done()
    impatient = asyncio.create_task(output.wait_for_subscription())
    await asyncio.sleep(0)
    impatient.cancel()
    subscribed.set()
    await asyncio.wait_for(asyncio.gather(publishing, waiting), 5)
    assert output.sample_rate == 24000
    await output.aclose()


async def test_capture_keeps_the_output_that_the_plugin_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the Tavus plugin's own `start` with the capture in place of the session, and another API client."""
    room, events = cast(Any, FakeRoom()), []
    room.name = "ornina-1"
    room.local_participant = SimpleNamespace(identity="agent", register_rpc_method=lambda *_: None, _rpc_handlers={})
    session = SimpleNamespace(on=lambda name, _: events.append(name))
    monkeypatch.setattr(utils.http_context, "http_session", lambda: object())
    context = SimpleNamespace(local_participant_identity="agent", add_shutdown_callback=lambda _: None)
    for module in ("livekit.plugins.tavus.avatar", "livekit.agents.voice.avatar._types"):
        monkeypatch.setattr(f"{module}.get_job_context", lambda **_: context)
    avatar = tavus.AvatarSession(face_id="f", pal_id="p", api_key="key")

    async def create_conversation(*, pal_id: str, face_id: str, properties: dict[str, Any]) -> str:
        assert (pal_id, face_id, sorted(properties)) == ("p", "f", ["livekit_room_token", "livekit_ws_url"])
        return "c1"

    sdk.set_tavus_api(avatar, SimpleNamespace(create_conversation=create_conversation))
    capture = sdk.AvatarOutputCapture(cast(Any, session))
    await avatar.start(
        cast("AgentSession[None]", capture),
        room,
        livekit_url="ws://livekit.test",
        livekit_api_key="key",
        livekit_api_secret="secret-of-at-least-thirty-two-characters",
    )
    assert avatar.conversation_id == "c1"
    assert isinstance(capture.sink, DataStreamAudioOutput)
    assert events == ["conversation_item_added"], "the rest reaches the session"
    sink = capture.sink
    await soon(lambda: sink._start_atask)
    task = sink._start_atask
    assert task is not None and not task.done(), "it waits for the avatar"
    sdk.stop_waiting_for_avatar(capture.sink)
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert task.cancelled()
    assert avatar._wait_avatar_join_task is not None
    avatar._wait_avatar_join_task.cancel()


def test_there_may_be_no_avatar_to_wait_for() -> None:
    sdk.stop_waiting_for_avatar(None)


async def test_last_output_is_the_one_that_the_session_replaces() -> None:
    first, second = FakeSink(), FakeSink()
    output = AgentOutput(lambda: None, lambda: None, lambda: None)
    output.audio = FakeWrapper(first)
    assert sdk.last_output(output.audio) is first
    output.replace_audio_tail(second)
    assert sdk.last_output(output.audio) is second
    assert sdk.last_output(second) is second


def _members(cls: type) -> set[str]:
    """Return the names of attributes and methods that a class defines itself."""
    return set(vars(cls)) | set(re.findall(r"self\.(\w+)\s*(?::[^=\n]+)?=[^=]", inspect.getsource(cls)))


@pytest.mark.parametrize(
    ("ours", "sdks", "overridden"),
    [
        (Worker, AgentServer, {"_connection_task", "_invoke_load_fnc", "_mp_ctx", "_run_ws", "_worker_load"}),
        (TimeLimitedSTT, openai.STT, {"_recognize_impl"}),
        (sdk.RoomAudioOutput, sdk.RoomAudioOutput.__base__, set()),
        (WatchedOutput, AudioOutput, {"capture_frame", "clear_buffer", "flush", "on_detached"}),
    ],
    ids=["server", "stt", "room output", "watched output"],
)
def test_subclasses_override_nothing_by_accident(ours: type, sdks: type, overridden: set[str]) -> None:
    added = set[str]().union(*(_members(cls) for cls in ours.__mro__[: ours.__mro__.index(sdks)]))
    inherited = set[str]().union(*(_members(cls) for cls in sdks.__mro__ if "livekit" in cls.__module__))
    assert {name for name in added & inherited if not name.startswith("__")} - {"_abc_impl"} == overridden


def test_overridden_methods_exist_with_these_parameters() -> None:
    assert list(inspect.signature(AgentServer._run_ws).parameters) == ["self", "ws"]
    assert list(inspect.signature(AgentServer._connection_task).parameters) == ["self"]
    assert list(inspect.signature(AgentServer._invoke_load_fnc).parameters) == ["self"]
    recognize = inspect.signature(openai.STT._recognize_impl)
    assert list(recognize.parameters) == ["self", "buffer", "language", "conn_options"]


@pytest.mark.parametrize("how", ["aclose", "shutdown"])
async def test_session_reports_that_it_begins_to_close(how: str) -> None:
    events: list[str] = []
    session = sdk.CallSession()
    await session.start(Agent(instructions=""))
    session.on_closing = lambda: events.append("closing")
    session.on("close", lambda _: events.append("closed"))
    if how == "aclose":
        await session.aclose()
    else:
        session.shutdown()
    await soon(lambda: "closed" in events)
    assert events == ["closing", "closed"]


@pytest.mark.parametrize(
    ("how", "by_job"),
    [("session.shutdown", False), ("session.aclose", False), ("context.shutdown", True), ("room", True)],
)
async def test_session_knows_whether_the_job_closes_it(livekit: FakeLiveKit, how: str, by_job: bool) -> None:
    closed: list[bool] = []

    async def entrypoint(context: JobContext) -> None:
        session, has_closed = sdk.CallSession(), asyncio.Event()
        session.on("close", lambda _: closed.append(session.is_closed_by_job))
        session.on("close", lambda _: has_closed.set())
        await session.start(Agent(instructions=""), record=False)
        if how == "session.shutdown":
            session.shutdown()
            await has_closed.wait()
        elif how == "session.aclose":
            await session.aclose()
            await has_closed.wait()
        elif how == "room":
            context.room.emit("disconnected", rtc.DisconnectReason.ROOM_DELETED)
        context.shutdown("done")

    async with running(livekit, entrypoint) as server:
        await soon(lambda: server.registered)
        await livekit.offer("AJ_1", "ornina-1")
        await soon(lambda: server.closed)
    assert closed == [by_job]
