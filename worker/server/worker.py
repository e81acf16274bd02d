"""The worker's main process: registers with LiveKit, accepts jobs while slots are free, drains on SIGTERM.

`worker.sdk.Server` is livekit-agents' AgentServer and what that lacks. This module counts the slots, because
AgentServer estimates them from the load.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from typing import Final

from livekit.agents import AssignmentTimeoutError, JobRequest

from agentspec import AvatarProvider, WorkerStatus
from agentspec.wire import CallOutcome, ProviderStage, StageReports, WorkerConfig, read_dispatch_metadata
from worker import avatar_limit, reports, sdk
from worker.avatar_reports import AvatarReport, Avatars, AvatarState
from worker.call import budget, job, phrases, voice
from worker.call.avatars import plugin
from worker.call.program import Program
from worker.call.voice import Stages
from worker.config import WorkerSettings
from worker.job_reports import JobProgress
from worker.provider_availability import Availability, ProviderAvailability
from worker.provider_reports import ProviderLog, StageOutcome, invalid
from worker.sdk import RunningJob
from worker.server import admission, ended_call, endpoints, metrics, report_sender, supervision, trials
from worker.server.job_limits import JobLimits, JobLimitWatch, Limit, container_memory, memory_share
from worker.server.jobs import Jobs
from worker.server.open_avatars import AvatarCloser
from worker.server.slots import Slots, load
from worker.server.tool_trials import ToolTrials

logger = logging.getLogger(__name__)

IDLE_PROCESSES: Final = 2
"""Idle call processes to keep while slots are free. One answers a call at once; each costs memory."""
CLOSING_SECONDS: Final = 60
"""How long a call may take to end after maxCallMinutes. The main process ends one that takes longer."""
ENDING_SECONDS: Final = 30.0
"""How long a call that the main process ends may take to close its avatar and to leave."""
_PROCESS_START_SECONDS: Final = 30.0
_PROCESS_CLOSE_SECONDS: Final = 20.0


class Worker(sdk.Server):
    """One worker of one AvatarAgent."""

    def __init__(self, settings: WorkerSettings, program: Program | None = None) -> None:
        """`program` answers the calls; None: the declared agent does."""
        config = settings.config
        answering = job if program is None else program
        longest_call = config.max_call_minutes * 60 + CLOSING_SECONDS
        super().__init__(
            ws_url=config.livekit_url,
            api_key=settings.livekit_key,
            api_secret=settings.livekit_secret,
            # The SDK must never decline a job by its load: `_on_request` declines by the exact number of slots.
            load_threshold=float("inf"),
            load_fnc=self._report_load,
            setup_fnc=answering.prewarm,
            num_idle_processes=min(IDLE_PROCESSES, config.calls_per_worker),
            initialize_process_timeout=_PROCESS_START_SECONDS,
            shutdown_process_timeout=_PROCESS_CLOSE_SECONDS,
            session_end_timeout=10.0,
            job_memory_warn_mb=0,  # `job_limits` measures it instead
            drain_timeout=longest_call,
            max_retry=sys.maxsize,
            preload_modules=["worker.call.preload", "worker.call.job"],
            host="127.0.0.1",
            port=0,
        )
        self._config = config
        self._slots = Slots(config.calls_per_worker)
        self._jobs = Jobs()
        has_plugin = config.avatar.provider is AvatarProvider.PLUGIN
        self.avatars = Avatars(avatar_limit.publish_jobs) if has_plugin else Avatars()
        self.closer: AvatarCloser | None = None
        """Closes abandoned avatars; None: the agent has no avatar."""
        self.report_sender: report_sender.ReportSender | None = None
        """Sends the reports of ended calls; None: there are none."""
        self.providers = ProviderLog()
        self.tools = ToolTrials(config)
        self.availability = Availability()
        self.first_registration = asyncio.Event()
        """Set once LiveKit has registered the worker."""
        self.report_handlers: reports.Handlers = {
            AvatarReport: self._on_avatar_report,
            JobProgress: lambda progress: self._jobs.record(progress, time.monotonic()),
            StageOutcome: self.providers.record,
            ProviderAvailability: self.availability.record,
        }
        """What to do with the reports of call processes."""
        self._stop = asyncio.Event()
        self._removals: set[asyncio.Task[None]] = set()
        """Keeps the tasks alive that remove lost agents from their rooms."""
        memory = memory_share(container_memory(), config.calls_per_worker)
        self._limits = JobLimitWatch(JobLimits(longest_call, memory), self.running_jobs, self._end_call)
        self.rtc_session(answering.answer, agent_name=config.registered_name, on_request=self._on_request)
        self.on("worker_registered", self._on_registered)
        metrics.SLOTS.set(config.calls_per_worker)
        metrics.CALLS.set_function(self.calls)
        metrics.CALLS_WITH_AVATAR.set_function(lambda: self.avatars.count(self.held_jobs()))
        metrics.REGISTERED.set_function(lambda: float(self.registered))
        metrics.DRAINING.set_function(lambda: float(self.draining))
        metrics.CALL_PROCESSES.labels("idle").set_function(self.idle_processes)
        metrics.CALL_PROCESSES.labels("call").set_function(lambda: len(self.running_job_ids()))

    def calls(self) -> int:
        """Return how many calls the worker holds. Calls that are starting or whose process is ending count."""
        return len(self.held_jobs())

    def held_jobs(self) -> set[str]:
        """Return the ids of the worker's jobs: those that are starting, running or ending."""
        return self._slots.held(self.running_job_ids())

    def status(self) -> WorkerStatus:
        """Return the worker status, which the controller and the gateway read."""
        held, now = self.held_jobs(), time.monotonic()
        return WorkerStatus(
            agent_name=self._config.registered_name,
            worker_id=self.worker_id,
            registered=self.registered,
            draining=self.draining,
            slots=self._slots.total,
            calls=len(held),
            avatars=self.avatars.count(held),
            avatar_problem=self.avatars.last_error,
            avatar_failure=plugin.known_failure(),
            stages=self.providers.reports(now),
            jobs=self._jobs.reports(held, now),
            tool_failure=self.tools.failure,
        )

    def _report_load(self) -> float:
        return load(self.calls(), self._slots.total, self._config.placement)

    def before_load(self) -> None:
        """Follow the free slots: calls end at any time."""
        self._follow_free_slots()

    def _follow_free_slots(self) -> None:
        """Keep no more idle call processes than free slots, and one for each accepted job that has none yet."""
        running = self.running_job_ids()
        idle = 0 if self.draining else min(IDLE_PROCESSES, self._slots.free(running))
        self.keep_idle_processes(idle, starting=self._slots.starting(running))

    async def _on_request(self, request: JobRequest) -> None:
        fields = {"room": request.room.name, "job_id": request.id, "agent_name": request.agent_name}
        decision = admission.decide(
            request.room.name,
            self._config.room_name_pattern,
            calls=self.calls(),
            slots=self._slots.total,
            draining=self.draining,
        )
        if decision.declined is not None:
            metrics.DECLINED.labels(decision.declined).inc()
            logger.warning("job declined", extra=fields | {"reason": decision.reason})
            await request.reject(terminate=False)  # another worker may have a slot, or a newer pattern
            return
        has_avatar = self._has_avatar(request)
        self._slots.reserve(request.id)
        self._jobs.accept(request.id, request.room.name)
        self._follow_free_slots()
        if has_avatar:
            self.avatars.expect(request.id)
        try:
            await request.accept(name=self._config.agent_name)
        except AssignmentTimeoutError:
            logger.warning("accepted job was not assigned", extra=fields)
        else:
            metrics.ACCEPTED.inc()
            logger.info(
                "room accepted",
                extra=fields
                | {
                    "avatar": self._config.avatar.provider if has_avatar else AvatarProvider.NONE,
                    "voice": self._config.voice.spoken_voice,
                },
            )
        finally:
            self._slots.release(request.id)
            if request.id not in self.held_jobs():  # no process started
                self.avatars.forget(request.id)
                self._jobs.forget(request.id)

    def _has_avatar(self, request: JobRequest) -> bool:
        if self._config.avatar.provider is AvatarProvider.NONE:
            return False
        metadata, _ = read_dispatch_metadata(request.job.metadata)
        return metadata.avatar and metadata.has_video is not False

    def _on_registered(self, worker_id: str, _: object) -> None:
        metrics.REGISTRATIONS.inc()
        self.first_registration.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        logger.info(
            "registered with LiveKit",
            extra={
                "worker_id": worker_id,
                "agent_name": self._config.registered_name,
                "dispatch_mode": self._config.dispatch_mode,
            },
        )

    def on_process_closed(self, job_id: str, room: str, *, failed: bool) -> None:
        """Close the avatar that the job left open, and count and log a lost call."""
        self._close_avatar(job_id)
        if self.report_sender is not None:
            self.report_sender.check(job_id)
        if failed:
            metrics.LOST.inc()
            logger.error("call process failed, its call is lost", extra={"room": room, "job_id": job_id})
            if self.livekit_api is not None:
                removing = asyncio.create_task(ended_call.remove_agent(self.livekit_api, room, job_id))
                self._removals.add(removing)
                removing.add_done_callback(self._removals.discard)

    def _on_avatar_report(self, report: AvatarReport) -> None:
        if report.state is AvatarState.ABANDONED:
            self._close_avatar(report.job_id)
        else:
            self.avatars.record(report)

    def _close_avatar(self, job_id: str) -> None:
        """Close an avatar that its call process no longer closes."""
        if self.avatars.abandon(job_id):
            if self.closer is None:
                self.avatars.forget(job_id)
            else:
                self.closer.close(job_id)

    async def _end_call(self, running: RunningJob, limit: Limit) -> None:
        """End a call that exceeded a limit, tell its caller, and leave all other calls alone."""
        assert self.livekit_api is not None, "a job runs, so the server does"
        if limit is Limit.LENGTH:
            self._jobs.set_outcome(running.id, CallOutcome.MAX_LENGTH)
            await ended_call.record_outcome(self.livekit_api, running.room, CallOutcome.MAX_LENGTH)
            await self.end_job(running.id, seconds=ENDING_SECONDS)
            await asyncio.sleep(budget.GATEWAY_CLOSE_SECONDS)
        else:  # its memory still grows
            await self.end_job(running.id, seconds=0)
        await ended_call.close(self.livekit_api, running.room, agent_follows=limit is Limit.MEMORY)

    def on_registration_lost(self) -> None:
        """Log the end, which the SDK does not."""
        logger.warning("registration with LiveKit ended")

    async def serve(self) -> int:
        """Run until a signal or a failure; returns the exit status.

        A signal before the first registration ends the process at once, because there is nothing to finish.
        """
        running = asyncio.create_task(self.run(), name="agent_server")
        stopping = asyncio.create_task(self._stop.wait(), name="stop_signal")
        watching = asyncio.create_task(self._limits.run(), name="job_limits")
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            stopping.cancel()
            watching.cancel()
            logger.error("worker failed", exc_info=running.exception())
            return 1
        await self._finish_calls()
        await self.aclose()
        await running
        watching.cancel()
        logger.info("worker stopped")
        return 0

    async def _finish_calls(self) -> None:
        logger.info("draining, declining new jobs", extra={"calls": self.calls()})
        try:
            await self.drain()
        except TimeoutError:
            logger.error("drain timed out, ending calls", extra={"calls": self.calls()})


async def _main(settings: WorkerSettings, program: Program | None = None) -> int:
    worker = Worker(settings, program)
    config = settings.config
    logger.info(
        "worker starting",
        extra={
            "agent": f"{config.namespace}/{config.name}",
            "dispatch_mode": config.dispatch_mode,
            "agent_name": config.registered_name,
            "room_name_pattern": config.room_name_pattern,
            "slots": config.calls_per_worker,
            "avatar": config.avatar.provider,
            "voice": config.voice.spoken_voice,
            "language": config.language,
            "livekit_url": config.livekit_url,
        },
    )
    if config.avatar.provider is AvatarProvider.NONE:
        logger.info("no avatar declared, calls are voice only")
    stages = voice.make_stages(settings)
    stages.on_availability = worker.availability.record
    preparing = asyncio.create_task(_prepare(worker, config, stages, program), name="prepare")
    try:
        serving, receiving = endpoints.serve(worker, settings.port), reports.receive(worker.report_handlers)
        supervising = supervision.open_avatars(settings, worker.avatars, worker.held_jobs)
        sending = report_sender.sending(config, has_program=program is not None)
        # The controller's first request for the status has the limit of avatars, which is stored beside the reports.
        async with (
            receiving,
            serving,
            sending as worker.report_sender,
            supervising as worker.closer,
            metrics.PROCESS.sampling(),
        ):
            return await worker.serve()
    except OSError as error:
        logger.error("cannot serve HTTP", extra={"port": settings.port, "error": str(error)})
        return 1
    finally:
        preparing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await preparing
        await stages.aclose()


async def _prepare(worker: Worker, config: WorkerConfig, stages: Stages, program: Program | None) -> None:
    """Prepare the phrases, and try the stages that the phrases do not need. A program has stages of its own."""
    if program is not None:
        return
    async with stages.http_session(), asyncio.TaskGroup() as group:
        group.create_task(phrases.prepare(config, stages, worker.providers.record))
        group.create_task(trials.run(config, stages, worker.providers, worker.first_registration))
        group.create_task(worker.tools.run(worker.first_registration))


async def check_stages(settings: WorkerSettings) -> StageReports:
    """Return what is wrong with the settings of stages, as reports of failures; without failures all can be used."""
    if not settings.config.voice.has_settings_to_check:
        return StageReports()
    stages = voice.make_stages(settings)
    faults: dict[ProviderStage, str] = {}
    async with stages.http_session():
        for language in (settings.config.language, *settings.config.languages):
            faults = stages.check(language) | faults
    await stages.aclose()
    log = ProviderLog()
    for stage, fault in faults.items():
        logger.critical("stage settings invalid", extra={"stage": stage, "error": fault})
        log.record(invalid(stage, fault))
    return log.reports(0.0)


def run(settings: WorkerSettings, program: Program | None = None) -> int:
    """Serve calls; returns the exit status."""
    return asyncio.run(_main(settings, program))
