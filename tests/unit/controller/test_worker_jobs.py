"""The jobs of workers: what listeners are told, and when a worker is lost."""

import logging

import pytest

from agentspec.wire import CallOutcome, JobReport, JobState, WorkerCalls
from controller.fleet.jobs import LOST_SECONDS, WorkerJobs
from controller.policy.lost_workers import LossReason
from tests.unit.controller.builders import KEY, OTHER, status

STARTING = JobReport(job_id="AJ_1", room="ava-1", state=JobState.STARTING)
JOINED = JobReport(job_id="AJ_1", room="ava-1", state=JobState.JOINED)
ENDED = JobReport(job_id="AJ_1", room="ava-1", state=JobState.ENDED, outcome=CallOutcome.CALLER_LEFT)
SECOND = JobReport(job_id="AJ_2", room="ava-2", state=JobState.JOINED)


def calls(*jobs: JobReport, lost: bool = False, worker: str = "pod-1") -> WorkerCalls:
    return WorkerCalls(agent="shop/ava", worker=worker, jobs=list(jobs), lost=lost)


class Scene:
    """Recorded jobs, and what a listener was told."""

    def __init__(self) -> None:
        self.losses: list[LossReason] = []
        self.jobs = WorkerJobs(self.losses.append)
        self.told: list[WorkerCalls] = []
        self.jobs.listeners.add(self.told.append)

    def report(self, *jobs: JobReport, worker_id: str = "AW_1", now: float = 0.0) -> None:
        self.jobs.record(KEY, "pod-1", status(jobs=list(jobs), worker_id=worker_id), now)

    def lose(self, reason: LossReason = LossReason.PROCESS_ENDED, now: float = 0.0) -> None:
        self.jobs.lose(KEY, "pod-1", reason, now)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_each_change_of_the_jobs_is_told_once(scene: Scene) -> None:
    scene.report()
    assert scene.told == [], "a worker without jobs"
    for _ in range(2):
        scene.report(STARTING)
    scene.report(JOINED)
    scene.report(JOINED, worker_id="AW_2")
    scene.report(ENDED)
    scene.report()
    scene.report()
    assert scene.told == [calls(STARTING), calls(JOINED), calls(ENDED), calls()]
    assert scene.jobs.current(0) == []


def test_worker_of_an_older_release_is_left_out(scene: Scene) -> None:
    scene.jobs.record(KEY, "pod-1", status(calls=1), 0)
    scene.lose()
    assert (scene.told, scene.losses) == ([], [])


def test_lost_worker_is_told_once_with_the_jobs_that_it_held(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.report(ENDED, SECOND)
    assert scene.jobs.has_jobs(KEY, "pod-1")
    with caplog.at_level(logging.WARNING):
        scene.lose()
        scene.lose(LossReason.POD_GONE)
    assert scene.told[1:] == [calls(SECOND, lost=True)]
    assert scene.losses == [LossReason.PROCESS_ENDED]
    assert not scene.jobs.has_jobs(KEY, "pod-1")
    (record,) = caplog.records
    facts = {name: getattr(record, name) for name in ("agent", "pod", "reason", "calls")}
    assert (record.message, facts) == (
        "worker lost",
        {"agent": "shop/ava", "pod": "pod-1", "reason": "process_ended", "calls": 1},
    )


@pytest.mark.parametrize("jobs", [[], [ENDED]], ids=["no jobs", "ended jobs"])
def test_worker_that_ends_after_its_jobs_is_not_lost(scene: Scene, jobs: list[JobReport]) -> None:
    scene.report(JOINED)
    scene.report(*jobs)
    scene.lose()
    assert scene.losses == []
    assert not any(line.lost for line in scene.told)
    assert scene.told[-1] == calls()


def test_new_process_of_a_worker_with_jobs_means_a_lost_one(scene: Scene) -> None:
    scene.report(JOINED)
    scene.report(worker_id="")
    assert scene.losses == [LossReason.PROCESS_RESTARTED]
    assert scene.told == [calls(JOINED), calls(JOINED, lost=True)]
    scene.report()
    scene.report(SECOND)
    assert scene.told[2:] == [calls(SECOND)]
    scene.report(SECOND)
    assert scene.losses == [LossReason.PROCESS_RESTARTED]


def test_process_that_registers_with_its_first_job_is_not_new(scene: Scene) -> None:
    scene.report(worker_id="")
    scene.report(JOINED)
    scene.report(JOINED, SECOND, worker_id="AW_2")
    assert scene.losses == []


def test_worker_that_comes_back_with_its_jobs_is_told_again(scene: Scene) -> None:
    scene.report(JOINED)
    scene.lose(LossReason.UNREACHABLE)
    scene.report(JOINED)
    assert scene.told == [calls(JOINED), calls(JOINED, lost=True), calls(JOINED)]
    assert scene.jobs.has_jobs(KEY, "pod-1")
    scene.lose()
    assert scene.losses == [LossReason.UNREACHABLE, LossReason.PROCESS_ENDED]


def test_new_listener_gets_workers_with_jobs_and_recent_losses(scene: Scene) -> None:
    scene.jobs.record(OTHER, "pod-9", status(jobs=[SECOND]), 0)
    scene.report(JOINED)
    scene.lose(now=10.0)
    other = WorkerCalls(agent=str(OTHER), worker="pod-9", jobs=[SECOND])
    assert scene.jobs.current(10.0 + LOST_SECONDS) == [calls(JOINED, lost=True), other]
    assert scene.jobs.current(10.1 + LOST_SECONDS) == [other]
    assert scene.jobs.current(0) == [other], "forgotten, not only left out"
