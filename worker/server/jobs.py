"""The jobs of one worker, as its status reports them. Pure: times are seconds of a monotonic clock."""

from collections.abc import Collection
from typing import Final

from agentspec.wire import ENDED_JOB_SECONDS, CallOutcome, JobReport, JobState
from worker.job_reports import JobProgress

MAX_ENDED_JOBS: Final = 100
"""Ended jobs to report at most. The others are at most as many as the slots, of which there are 100 at most."""


class Jobs:
    """Follows each job from its acceptance until some seconds after its end."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobReport] = {}
        self._ended: dict[str, float] = {}
        """When each ended job ended, in the order of the ends."""
        self._sorted: list[JobReport] | None = None
        """The last list of reports; None: a job changed since."""

    def accept(self, job_id: str, room: str) -> None:
        """Follow a job that is being accepted."""
        self._set(JobReport(job_id=job_id, room=room, state=JobState.STARTING))

    def forget(self, job_id: str) -> None:
        """Stop following a job that got no call process: another worker may have it."""
        self._remove(job_id)

    def set_outcome(self, job_id: str, outcome: CallOutcome) -> None:
        """Set how a job ends. The first outcome counts."""
        job = self._jobs.get(job_id)
        if job is not None and not job.outcome:
            self._set(job.model_copy(update={"outcome": outcome}))

    def record(self, progress: JobProgress, now: float) -> None:
        """Apply a call process' report. One about a job that has ended changes nothing."""
        job = self._jobs.get(progress.job_id)
        if job is None or job.state is JobState.ENDED:
            return
        if progress.outcome is not None:
            self.set_outcome(job.job_id, progress.outcome)
        if progress.state is JobState.ENDED:
            self._end(job.job_id, now)
        else:
            self._set(job.model_copy(update={"state": progress.state}))

    def reports(self, held: Collection[str], now: float) -> list[JobReport]:
        """Return all jobs by id, given the ids of those that are starting, running or ending."""
        for job_id in [job_id for job_id in self._jobs if job_id not in held and job_id not in self._ended]:
            self._end(job_id, now)
        surplus = len(self._ended) - MAX_ENDED_JOBS
        for number, (job_id, ended_at) in enumerate(list(self._ended.items())):
            if number < surplus or now - ended_at >= ENDED_JOB_SECONDS:
                self._remove(job_id)
        if self._sorted is None:
            self._sorted = [self._jobs[job_id] for job_id in sorted(self._jobs)]
        return self._sorted

    def _end(self, job_id: str, now: float) -> None:
        self._ended[job_id] = now
        self._set(self._jobs[job_id].model_copy(update={"state": JobState.ENDED}))

    def _set(self, job: JobReport) -> None:
        self._jobs[job.job_id] = job
        self._sorted = None

    def _remove(self, job_id: str) -> None:
        self._ended.pop(job_id, None)
        if self._jobs.pop(job_id, None) is not None:
            self._sorted = None
