"""The main process: what is registered, which jobs are taken, how it waits between failed registrations."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import AgentServer
from livekit.agents._exceptions import AssignmentTimeoutError

from agentspec.wire import WorkerConfig
from worker.config import WorkerSettings
from worker.server.worker import Worker


@pytest.fixture
async def worker(config: WorkerConfig) -> Worker:
    return Worker(
        WorkerSettings(
            config=config, livekit_key="key", livekit_secret="secret", openai_key="o", tavus_key="", port=8080
        )
    )


class FakeRequest:
    """A job on offer."""

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
        assert not terminate, "another worker may still take it"
        self.rejected += 1

    async def accept(self, *, name: str) -> None:
        assert name == self.agent_name
        self.accepted += 1
        await self.assignment.wait()
        if self.error is not None:
            raise self.error


def _offer(worker: Worker, request: FakeRequest) -> asyncio.Task[None]:
    return asyncio.create_task(worker._on_request(cast(Any, request)))


def test_the_sdk_has_what_this_class_reaches_into() -> None:
    for name in (
        "_run_ws",
        "_connection_task",
        "_answer_availability",
        "_invoke_load_fnc",
        "_update_worker_status",
        "active_jobs",
        "draining",
        "drain",
    ):
        assert hasattr(AgentServer, name)


async def test_it_registers_under_the_declared_name(worker: Worker) -> None:
    assert worker._agent_name == "ornina-avatar-agent"
    assert worker.status().registered is False
    assert worker.status().worker_id == ""


async def test_a_room_outside_the_pattern_is_declined(worker: Worker) -> None:
    request = FakeRequest("other-1")
    await _offer(worker, request)
    assert (request.rejected, request.accepted) == (1, 0)


async def test_offers_made_at_once_never_exceed_the_slots(worker: Worker) -> None:
    requests = [FakeRequest(f"ornina-{number}", f"AJ_{number}") for number in range(6)]
    offers = [_offer(worker, request) for request in requests]
    await asyncio.sleep(0)
    assert sum(request.accepted for request in requests) == 4
    assert sum(request.rejected for request in requests) == 2
    assert worker.calls() == worker.status().calls == 4
    for request in requests:
        request.assignment.set()
    await asyncio.gather(*offers)
    assert worker.calls() == 0  # no process took them in this test


async def test_a_withdrawn_job_frees_its_slot(worker: Worker) -> None:
    request = FakeRequest("ornina-1")
    request.error = AssignmentTimeoutError()
    request.assignment.set()
    await _offer(worker, request)
    assert worker.calls() == 0


def _with_tavus(config: WorkerConfig) -> Worker:
    tavus = {"faceID": "f", "palID": "p", "credentialsSecretRef": {"name": "tavus"}}
    document = config.model_dump(by_alias=True) | {"avatar": {"provider": "Tavus", "tavus": tavus}}
    return Worker(
        WorkerSettings(
            config=WorkerConfig.model_validate(document),
            livekit_key="key",
            livekit_secret="secret",
            openai_key="o",
            tavus_key="t",
            port=8080,
        )
    )


@pytest.mark.parametrize(
    ("metadata", "avatars"),
    [("", 1), ('{"callID": "c"}', 1), ('{"callID": "c", "avatar": true}', 1), ('{"callID": "c", "avatar": false}', 0)],
    ids=["anyone's dispatch", "a gateway's", "a seat is free", "no seat is free"],
)
async def test_an_avatar_counts_from_the_acceptance_on(config: WorkerConfig, metadata: str, avatars: int) -> None:
    worker = _with_tavus(config)
    request = FakeRequest("ornina-1", metadata=metadata)
    offer = _offer(worker, request)
    await asyncio.sleep(0)
    assert (worker.status().calls, worker.status().avatars) == (1, avatars)
    request.assignment.set()
    await offer
    assert (worker.status().calls, worker.status().avatars) == (0, 0)  # no process took it in this test


async def test_a_voice_only_agent_has_no_avatars(worker: Worker) -> None:
    request = FakeRequest("ornina-1")
    offer = _offer(worker, request)
    await asyncio.sleep(0)
    assert (worker.status().calls, worker.status().avatars) == (1, 0)
    request.assignment.set()
    await offer


async def test_a_killed_process_gives_its_avatar_back(config: WorkerConfig) -> None:
    worker = _with_tavus(config)
    job = SimpleNamespace(job=SimpleNamespace(id="AJ_1", room=SimpleNamespace(name="ornina-1")))
    worker._proc_pool = cast(Any, SimpleNamespace(processes=[SimpleNamespace(running_job=job)]))
    worker.avatars.expect("AJ_1")
    assert worker.status().avatars == 1
    worker._proc_pool.processes.clear()
    assert worker.status().avatars == 0
    worker._on_process_closed(cast(Any, SimpleNamespace(running_job=job, status=None)))
    assert worker.avatars.count({"AJ_1"}) == 0, "forgotten, not only left out"


async def test_registered_is_true_exactly_while_the_connection_is_served(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    async def serve(server: Worker, _: object) -> None:
        seen.append(server.status().registered)
        raise ConnectionError

    monkeypatch.setattr(AgentServer, "_run_ws", serve)
    with pytest.raises(ConnectionError):
        await worker._run_ws(cast(Any, None))
    assert seen == [True]
    assert worker.status().registered is False


async def test_registrations_that_fail_at_once_are_paced(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    attempts = 0

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def connect(*_: object) -> SimpleNamespace:
        nonlocal attempts
        attempts += 1
        return SimpleNamespace()

    async def keep_connecting(server: Any) -> None:  # noqa: ANN401
        for _ in range(7):
            await server._http_session.ws_connect("ws://livekit.test")

    worker._http_session = cast(Any, SimpleNamespace(ws_connect=connect))
    monkeypatch.setattr(AgentServer, "_connection_task", keep_connecting)
    monkeypatch.setattr(asyncio, "sleep", pause)
    await worker._connection_task()
    assert attempts == 7
    assert pauses == [1, 2, 4, 8, 10, 10]


async def test_a_worker_that_failed_thousands_of_times_still_tries(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def connect(*_: object) -> SimpleNamespace:
        return SimpleNamespace()

    async def keep_connecting(server: Any) -> None:  # noqa: ANN401
        await server._http_session.ws_connect("ws://livekit.test")

    worker._http_session = cast(Any, SimpleNamespace(ws_connect=connect))
    worker._unstable_connects = 5000
    monkeypatch.setattr(AgentServer, "_connection_task", keep_connecting)
    monkeypatch.setattr(asyncio, "sleep", pause)
    await worker._connection_task()
    assert pauses == [10]


async def test_a_changed_load_is_told_at_once_and_an_unchanged_one_is_not(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    async def tell() -> None:
        told.append(worker._worker_load)

    monkeypatch.setattr(worker, "_update_worker_status", tell)
    monkeypatch.setattr(worker, "_load_fnc", lambda: 0.345)
    worker._worker_load = 0.0
    await worker._invoke_load_fnc()
    assert told == [], "nobody to tell before the registration"
    worker.registered = True
    await worker._invoke_load_fnc()
    await worker._invoke_load_fnc()
    assert told == [0.345]
