"""Jobs of a worker: from the acceptance until some seconds after the end."""

import pytest

from agentspec.wire import ENDED_JOB_SECONDS, CallOutcome, JobReport, JobState
from tests.waiting import soon
from worker import job_reports, reports
from worker.job_reports import JobProgress
from worker.server.jobs import MAX_ENDED_JOBS, Jobs

JOINED = JobProgress(job_id="AJ_1", state=JobState.JOINED)
ENDED = JobProgress(job_id="AJ_1", state=JobState.ENDED, outcome=CallOutcome.CALLER_LEFT)


def job(state: JobState, outcome: CallOutcome | str = "", job_id: str = "AJ_1") -> JobReport:
    return JobReport(job_id=job_id, room="ornina-1", state=state, outcome=outcome)


@pytest.fixture
def jobs() -> Jobs:
    """A worker that accepts one job."""
    made = Jobs()
    made.accept("AJ_1", "ornina-1")
    return made


def test_job_starts_joins_ends_and_is_dropped(jobs: Jobs) -> None:
    assert jobs.reports({"AJ_1"}, 0) == [job(JobState.STARTING)]
    jobs.record(JOINED, 1)
    assert jobs.reports({"AJ_1"}, 1) == [job(JobState.JOINED)]
    jobs.record(ENDED, 2)
    ended = [job(JobState.ENDED, CallOutcome.CALLER_LEFT)]
    assert jobs.reports({"AJ_1"}, 2) == ended, "the agent has left, and its process is still closing"
    assert jobs.reports((), 2 + ENDED_JOB_SECONDS - 0.1) == ended
    assert jobs.reports((), 2 + ENDED_JOB_SECONDS) == []


def test_lost_call_process_ends_its_job_without_an_outcome(jobs: Jobs) -> None:
    jobs.record(JOINED, 1)
    assert jobs.reports((), 2) == [job(JobState.ENDED)]
    assert jobs.reports((), 2 + ENDED_JOB_SECONDS) == []


def test_job_that_got_no_process_disappears(jobs: Jobs) -> None:
    jobs.forget("AJ_1")
    assert jobs.reports((), 1) == []


def test_first_outcome_counts(jobs: Jobs) -> None:
    jobs.set_outcome("AJ_1", CallOutcome.MAX_LENGTH)
    assert jobs.reports({"AJ_1"}, 1) == [job(JobState.STARTING, CallOutcome.MAX_LENGTH)]
    jobs.record(ENDED, 2)
    assert jobs.reports((), 2) == [job(JobState.ENDED, CallOutcome.MAX_LENGTH)]


def test_late_report_changes_nothing(jobs: Jobs) -> None:
    jobs.record(ENDED, 1)
    jobs.record(JOINED, 2)
    assert jobs.reports((), 2) == [job(JobState.ENDED, CallOutcome.CALLER_LEFT)]
    jobs.reports((), 10)
    jobs.record(ENDED, 11)
    assert jobs.reports((), 11) == []


def test_jobs_are_sorted_and_the_ended_ones_bounded() -> None:
    jobs = Jobs()
    for number in range(MAX_ENDED_JOBS + 50):
        jobs.accept(f"AJ_{number:03}", "ornina-1")
        jobs.reports((), number / 1000)
    jobs.accept("AJ_000", "ornina-1")
    ids = [report.job_id for report in jobs.reports({"AJ_000"}, 1)]
    assert ids == ["AJ_000", *(f"AJ_{number:03}" for number in range(50, MAX_ENDED_JOBS + 50))]


def test_unchanged_jobs_are_the_same_list(jobs: Jobs) -> None:
    """Each watcher's stream reads the status twenty times a second."""
    assert jobs.reports({"AJ_1"}, 1) is jobs.reports({"AJ_1"}, 2)


async def test_reports_of_a_call_process_reach_the_main_process(jobs: Jobs) -> None:
    async with reports.receive({JobProgress: lambda progress: jobs.record(progress, 0)}):
        job_reports.joined("AJ_1")
        await soon(lambda: jobs.reports({"AJ_1"}, 0) == [job(JobState.JOINED)])
        job_reports.ended("AJ_1", CallOutcome.CRASHED)
        await soon(lambda: jobs.reports({"AJ_1"}, 0) == [job(JobState.ENDED, CallOutcome.CRASHED)])
