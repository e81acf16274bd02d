"""The main process: the name it registers under, the jobs it accepts, the avatars it counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import AssignmentTimeoutError

from agentspec.wire import CallOutcome, JobReport, JobState, ProviderStage, WorkerConfig
from tests.unit.worker.builders import PLUGIN, TAVUS, make_config, make_settings
from worker import avatar_limit, reports
from worker.avatar_reports import AvatarReport, AvatarState
from worker.call import budget
from worker.job_reports import JobProgress
from worker.provider_reports import StageOutcome, succeeded
from worker.sdk import RunningJob
from worker.server import ended_call, endpoints, metrics
from worker.server import worker as worker_module
from worker.server.admission import Declined
from worker.server.job_limits import Limit
from worker.server.slots import load
from worker.server.worker import ENDING_SECONDS, Worker


@pytest.fixture
async def worker(config: WorkerConfig) -> Worker:
    return Worker(make_settings(config))


class FakeRequest:
    """A job that LiveKit offers."""

    def __init__(self, room: str, job: str = "AJ_1", metadata: str = "") -> None:
        self.room = SimpleNamespace(name=room)
        self.id = job
        self.job = SimpleNamespace(metadata=metadata)
        self.agent_name = "ornina-avatar-agent"
        self.rejected = 0
        self.accepted = 0
        self.assignment = asyncio.Event()
        self.error: Exception | None = None

    async def reject(self, *, terminate: bool) -> None:
        assert not terminate, "another worker may still accept it"
        self.rejected += 1

    async def accept(self, *, name: str) -> None:
        assert name == self.agent_name
        self.accepted += 1
        await self.assignment.wait()
        if self.error is not None:
            raise self.error


def _offer(worker: Worker, request: FakeRequest) -> asyncio.Task[None]:
    return asyncio.create_task(worker._on_request(cast(Any, request)))


async def test_worker_registers_under_the_declared_name(worker: Worker) -> None:
    assert worker._agent_name == "ornina-avatar-agent"
    assert worker.status().registered is False
    assert worker.status().worker_id == ""


async def test_status_has_the_outcomes_that_calls_report(worker: Worker) -> None:
    handle = worker.report_handlers[StageOutcome]
    handle(succeeded(ProviderStage.STT))
    stages = worker.status().stages
    assert stages is not None and stages.stt.succeeded_at is not None


async def test_status_has_a_job_from_its_acceptance_to_its_end(worker: Worker) -> None:
    request = FakeRequest("ornina-1")
    offer = _offer(worker, request)
    await asyncio.sleep(0)
    assert worker.status().jobs == [JobReport(job_id="AJ_1", room="ornina-1", state=JobState.STARTING)]
    worker._proc_pool = cast(Any, FakePool(idle=0, busy=2))
    request.assignment.set()
    await offer
    handle = worker.report_handlers[JobProgress]
    handle(JobProgress(job_id="AJ_1", state=JobState.JOINED))
    assert worker.status().jobs == [JobReport(job_id="AJ_1", room="ornina-1", state=JobState.JOINED)]
    worker._proc_pool = cast(Any, FakePool(idle=0))
    assert worker.status().jobs == [JobReport(job_id="AJ_1", room="ornina-1", state=JobState.ENDED)]


async def test_job_without_assignment_is_not_reported(worker: Worker) -> None:
    """Another worker may have it: it has not ended."""
    request = FakeRequest("ornina-1")
    request.error = AssignmentTimeoutError()
    request.assignment.set()
    await _offer(worker, request)
    assert worker.status().jobs == []


async def test_job_outside_the_room_pattern_is_declined(worker: Worker) -> None:
    request = FakeRequest("other-1")
    await _offer(worker, request)
    assert (request.rejected, request.accepted) == (1, 0)


async def test_concurrent_offers_never_exceed_the_slots(worker: Worker) -> None:
    requests = [FakeRequest(f"ornina-{number}", f"AJ_{number}") for number in range(6)]
    offers = [_offer(worker, request) for request in requests]
    await asyncio.sleep(0)
    assert sum(request.accepted for request in requests) == 4
    assert sum(request.rejected for request in requests) == 2
    assert worker.calls() == worker.status().calls == 4
    for request in requests:
        request.assignment.set()
    await asyncio.gather(*offers)
    assert worker.calls() == 0  # no process starts in this test


async def test_job_without_assignment_frees_its_slot(worker: Worker) -> None:
    request = FakeRequest("ornina-1")
    request.error = AssignmentTimeoutError()
    request.assignment.set()
    await _offer(worker, request)
    assert worker.calls() == 0


@pytest.fixture
async def tavus_worker() -> Worker:
    return Worker(make_settings(make_config(avatar=TAVUS)))


@pytest.mark.parametrize(
    ("metadata", "avatars"),
    [
        ("", 1),
        ('{"callID": "c"}', 1),
        ('{"callID": "c", "avatar": true}', 1),
        ('{"callID": "c", "avatar": false}', 0),
        ('{"callID": "c", "capabilities": ["video"]}', 1),
        ('{"capabilities": ["captions"]}', 0),
    ],
    ids=["no metadata", "gateway's metadata", "a seat is free", "no seat is free", "video", "no video"],
)
async def test_avatar_counts_from_acceptance(tavus_worker: Worker, metadata: str, avatars: int) -> None:
    request = FakeRequest("ornina-1", metadata=metadata)
    offer = _offer(tavus_worker, request)
    await asyncio.sleep(0)
    assert (tavus_worker.status().calls, tavus_worker.status().avatars) == (1, avatars)
    request.assignment.set()
    await offer
    assert (tavus_worker.status().calls, tavus_worker.status().avatars) == (0, 0)  # no process starts in this test


@pytest.mark.parametrize(
    "metadata",
    ["not json", '{"user_id": "u1"}', '{"avatar": false}', "[" * 60_000],
    ids=["text", "another back end's", "the gateway's own field", "deeply nested"],
)
async def test_avatar_of_another_back_ends_call_counts(tavus_worker: Worker, metadata: str) -> None:
    request = FakeRequest("ornina-1", metadata=metadata)
    offer = _offer(tavus_worker, request)
    await asyncio.sleep(0)
    assert (tavus_worker.status().calls, tavus_worker.status().avatars) == (1, 1)
    request.assignment.set()
    await offer


async def test_worker_with_an_avatar_plugin_tells_calls_whose_seat_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(reports.SOCKET_VARIABLE, str(tmp_path / "reports.sock"))
    plugin_worker = Worker(make_settings(make_config(avatar=PLUGIN)))
    offers = [FakeRequest("ornina-1", f"AJ_{number}") for number in (2, 1)]
    accepting = [_offer(plugin_worker, offer) for offer in offers]
    await asyncio.sleep(0)
    assert avatar_limit.jobs_with_avatar() == ["AJ_2", "AJ_1"]
    for offer in offers:
        offer.assignment.set()
    await asyncio.gather(*accepting)
    assert avatar_limit.jobs_with_avatar() == []


async def test_status_says_why_the_avatar_plugin_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATAR_AGENT_AVATAR_FAILURE", "no such option")
    status = Worker(make_settings(make_config(avatar=PLUGIN))).status()
    assert status.avatar_failure == "no such option"
    assert '"avatarFailure":"no such option"' in status.model_dump_json(by_alias=True)


async def test_status_of_a_stock_worker_has_no_new_field(worker: Worker) -> None:
    assert "avatarFailure" not in worker.status().model_dump_json(by_alias=True)


async def test_voice_only_agent_counts_no_avatars(worker: Worker) -> None:
    request = FakeRequest("ornina-1")
    offer = _offer(worker, request)
    await asyncio.sleep(0)
    assert (worker.status().calls, worker.status().avatars) == (1, 0)
    request.assignment.set()
    await offer


async def test_closed_process_releases_its_avatar(tavus_worker: Worker) -> None:
    job = SimpleNamespace(job=SimpleNamespace(id="AJ_1", room=SimpleNamespace(name="ornina-1")))
    tavus_worker._proc_pool = cast(Any, SimpleNamespace(processes=[SimpleNamespace(running_job=job)]))
    tavus_worker.avatars.expect("AJ_1")
    assert tavus_worker.status().avatars == 1
    tavus_worker._proc_pool.processes.clear()
    assert tavus_worker.status().avatars == 0
    tavus_worker.on_process_closed("AJ_1", "ornina-1", failed=True)
    assert tavus_worker.avatars.count({"AJ_1"}) == 0, "forgotten, not only left out"


@pytest.mark.parametrize("how", ["process closed", "reported"])
async def test_conversation_that_a_call_process_left_open_is_closed(tavus_worker: Worker, how: str) -> None:
    closed: list[str] = []
    tavus_worker.closer = cast(Any, SimpleNamespace(close=closed.append))
    for _ in range(2):
        tavus_worker.avatars.expect("AJ_1")
        if how == "reported":
            report = AvatarReport(job_id="AJ_1", state=AvatarState.ABANDONED)
            tavus_worker.report_handlers[AvatarReport](report)
        tavus_worker.on_process_closed("AJ_1", "ornina-1", failed=False)
        assert closed == ["AJ_1"], "once for each job"
        assert tavus_worker.status().avatars == 1
        closed.clear()
        tavus_worker.avatars.forget("AJ_1")


async def test_released_avatar_needs_no_closing(tavus_worker: Worker) -> None:
    closed: list[str] = []
    tavus_worker.closer = cast(Any, SimpleNamespace(close=closed.append))
    tavus_worker.avatars.expect("AJ_1")
    tavus_worker.report_handlers[AvatarReport](AvatarReport(job_id="AJ_1", state=AvatarState.RELEASED))
    tavus_worker.on_process_closed("AJ_1", "ornina-1", failed=False)
    assert closed == []


@pytest.mark.parametrize(("failed", "lost"), [(True, 1), (False, 0)], ids=["process failed", "process exited"])
async def test_only_a_failed_process_counts_as_a_lost_call(worker: Worker, failed: bool, lost: int) -> None:
    before = metrics.LOST._value.get()
    worker.on_process_closed("AJ_1", "ornina-1", failed=failed)
    assert metrics.LOST._value.get() == before + lost


@pytest.mark.parametrize(("failed", "removed"), [(True, ["AJ_1"]), (False, [])], ids=["process failed", "exited"])
async def test_agent_of_a_failed_process_is_removed_from_the_room(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, failed: bool, removed: list[str]
) -> None:
    """The gateway sends the caller another agent only once the lost one is gone."""
    asked: list[str] = []

    async def remove_agent(_: object, room: str, job_id: str) -> None:
        assert room == "ornina-1"
        asked.append(job_id)

    monkeypatch.setattr(ended_call, "remove_agent", remove_agent)
    worker._api = cast(Any, object())
    worker.on_process_closed("AJ_1", "ornina-1", failed=failed)
    await asyncio.gather(*worker._removals)
    assert asked == removed


async def test_reported_load_and_idle_processes_follow_the_free_slots(worker: Worker, config: WorkerConfig) -> None:
    idle: list[int] = []
    pool = SimpleNamespace(
        processes=[], set_target_idle_processes=idle.append, _warmed_proc_queue=asyncio.Queue(), _close_tasks=set()
    )
    worker._proc_pool = cast(Any, pool)
    loads = []
    for number in range(5):
        loads.append(await worker._invoke_load_fnc())
        worker._slots.reserve(f"AJ_{number}")
    assert loads == [load(calls, 4, config.placement) for calls in range(5)]
    assert idle == [2, 2, 2, 1, 0]


@pytest.fixture
async def ending(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The steps of a worker that ends a call, in order."""
    steps: list[tuple[object, ...]] = []

    async def record_outcome(_: object, room: str, outcome: CallOutcome) -> None:
        steps.append(("record", room, outcome))

    async def close(_: object, room: str, *, agent_follows: bool) -> None:
        steps.append(("close", room, agent_follows))

    async def end_job(job_id: str, *, seconds: float) -> None:
        steps.append(("end", job_id, seconds))

    monkeypatch.setattr(ended_call, "record_outcome", record_outcome)
    monkeypatch.setattr(ended_call, "close", close)
    monkeypatch.setattr(worker, "end_job", end_job)
    monkeypatch.setattr(budget, "GATEWAY_CLOSE_SECONDS", 0.0)
    worker._api = cast(Any, object())
    return steps


RUNNING = RunningJob("AJ_1", "ornina-1", 1)


async def test_caller_of_a_call_that_is_too_long_is_told_first(
    worker: Worker, ending: list[tuple[object, ...]]
) -> None:
    worker._jobs.accept("AJ_1", "ornina-1")
    await worker._end_call(RUNNING, Limit.LENGTH)
    assert worker._jobs.reports((), 0)[0].outcome is CallOutcome.MAX_LENGTH
    assert ending == [
        ("record", "ornina-1", CallOutcome.MAX_LENGTH),
        ("end", "AJ_1", ENDING_SECONDS),
        ("close", "ornina-1", False),
    ]


async def test_call_that_grows_is_killed_at_once_and_another_agent_follows(
    worker: Worker, ending: list[tuple[object, ...]]
) -> None:
    await worker._end_call(RUNNING, Limit.MEMORY)
    assert ending == [("end", "AJ_1", 0), ("close", "ornina-1", True)]


class FakeProcess:
    """An initialised call process, with a job or without."""

    def __init__(self, job: str = "") -> None:
        info = SimpleNamespace(id=job, room=SimpleNamespace(name="ornina-1"))
        self.running_job = SimpleNamespace(job=info) if job else None
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True


class FakePool:
    """The SDK's process pool, which starts no processes."""

    def __init__(self, *, idle: int, busy: int = 0) -> None:
        self.processes = [FakeProcess() for _ in range(idle)]
        self._warmed_proc_queue: asyncio.Queue[FakeProcess] = asyncio.Queue()
        for process in self.processes:
            self._warmed_proc_queue.put_nowait(process)
        self.processes += [FakeProcess(f"AJ_{number}") for number in range(busy)]
        self._close_tasks: set[asyncio.Task[None]] = set()
        self.target = -1

    def set_target_idle_processes(self, count: int) -> None:
        self.target = count


@pytest.mark.parametrize(
    ("busy", "starting", "draining", "target", "idle"),
    [
        (0, 0, False, 2, 2),
        (2, 0, False, 2, 2),
        (3, 0, False, 1, 1),
        (4, 0, False, 0, 0),
        (2, 1, False, 1, 2),
        (3, 1, False, 0, 1),
        (2, 0, True, 0, 0),
        (2, 1, True, 0, 1),
    ],
    ids=[
        "idle worker",
        "two slots free",
        "one slot free",
        "full",
        "an accepted job needs one of two",
        "an accepted job needs the last",
        "draining",
        "draining with an accepted job",
    ],
)
async def test_idle_processes_never_outnumber_the_free_slots(
    worker: Worker, busy: int, starting: int, draining: bool, target: int, idle: int
) -> None:
    pool = FakePool(idle=2, busy=busy)
    worker._proc_pool, worker._draining = cast(Any, pool), draining
    for number in range(starting):
        worker._slots.reserve(f"AJ_starting_{number}")
    worker._follow_free_slots()
    assert (pool.target, worker.idle_processes()) == (target, idle)
    await asyncio.gather(*pool._close_tasks)
    assert sum(process.closed for process in pool.processes) == 2 - idle


async def test_load_report_closes_surplus_idle_processes(worker: Worker) -> None:
    """The SDK computes the load in a thread, where no process can be closed."""
    pool = FakePool(idle=2, busy=3)
    worker._proc_pool = cast(Any, pool)
    await worker._invoke_load_fnc()
    assert (pool.target, worker.idle_processes()) == (1, 1)


async def test_accepted_job_lowers_the_idle_processes_at_once(worker: Worker) -> None:
    pool = FakePool(idle=2, busy=2)
    worker._proc_pool = cast(Any, pool)
    request = FakeRequest("ornina-1", "AJ_offered")
    offer = _offer(worker, request)
    await asyncio.sleep(0)
    assert pool.target == 1, "two would be one more than the free slots"
    request.assignment.set()
    await offer


async def test_idle_and_busy_call_processes_are_reported(worker: Worker) -> None:
    idle: asyncio.Queue[None] = asyncio.Queue()
    job = SimpleNamespace(job=SimpleNamespace(id="AJ_1", room=SimpleNamespace(name="ornina-1")))
    processes = [SimpleNamespace(running_job=job), SimpleNamespace(running_job=None)]
    assert call_processes() == {"idle": 0, "call": 0}, "the server has no processes yet"
    worker._proc_pool = cast(Any, SimpleNamespace(processes=processes, _warmed_proc_queue=idle))
    assert call_processes() == {"idle": 0, "call": 1}, "a process that starts is not idle yet"
    idle.put_nowait(None)
    assert call_processes() == {"idle": 1, "call": 1}


def call_processes() -> dict[str, float]:
    (family,) = metrics.CALL_PROCESSES.collect()
    return {sample.labels["state"]: sample.value for sample in family.samples}


async def test_declined_jobs_start_at_zero_for_each_reason() -> None:
    (family,) = metrics.DECLINED.collect()
    assert {sample.labels["reason"] for sample in family.samples} == set(Declined)


async def test_limit_of_avatars_is_kept_from_the_first_request_on(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller may request the status as soon as the worker serves HTTP, and sends the limit only then."""
    kept: list[int | None] = []

    @asynccontextmanager
    async def serve(*_: object) -> AsyncIterator[int]:
        avatar_limit.publish(3)
        kept.append(avatar_limit.read())
        raise OSError("the port is in use")
        yield 0

    async def prepare(*_: object) -> None: ...

    monkeypatch.setattr(endpoints, "serve", serve)
    monkeypatch.setattr(worker_module, "_prepare", prepare)
    assert await worker_module._main(make_settings(config)) == 1
    assert kept == [3]
