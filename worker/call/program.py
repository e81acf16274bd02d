"""A whole program of the user: its own entrypoint and session, in a worker whose slots, drain and status are ours.

The main process imports this module before it forks. Modules with series of call processes are therefore imported in
the functions that call processes run.
"""

import asyncio
import logging
import os
import pickle
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from livekit import api
from livekit.agents import JobContext, JobProcess

from agentspec.wire import CallOutcome, read_dispatch_metadata, with_outcome
from worker import job_reports, sdk
from worker.call import budget, call_agent
from worker.config import load_settings
from worker.contract import CallContext

logger = logging.getLogger(__name__)

_OUTCOMES = {sdk.ROOM_DISCONNECTED: CallOutcome.ROOM_CLOSED, sdk.JOB_CRASHED: CallOutcome.CRASHED}
"""Outcomes of jobs that the SDK ended, by its shutdown reason."""


@dataclass(frozen=True)
class Program:
    """The functions of a program. Both are pickled by their names, so they are top-level functions."""

    entrypoint: Callable[[JobContext], Awaitable[None]]
    """Answers one call."""
    setup: Callable[[JobProcess], Any] | None = None
    """Prepares a call process before it gets a job; None: nothing to prepare."""

    def __post_init__(self) -> None:
        if not iscoroutinefunction(self.entrypoint):
            raise TypeError(f"{self.entrypoint!r} is no async function: pass the function that answers a job")
        try:
            pickle.dumps(self)
        except Exception as error:
            raise TypeError(f"pass top-level functions, which call processes can import: {error}") from error

    def prewarm(self, process: JobProcess) -> None:
        """Prepare the process before it gets a job."""
        from worker.call import job

        job.prepare_process()
        if self.setup is not None:
            self.setup(process)

    async def answer(self, context: JobContext) -> None:
        """Run the entrypoint, and report the call."""
        call = _ProgramCall(context)
        call.follow()
        await self.entrypoint(context)


class _ProgramCall:
    """What a worker reports of a call whose session is not ours."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._metadata, _ = read_dispatch_metadata(context.job.metadata)
        self._started = time.monotonic()
        self._outcome: CallOutcome | None = None
        self._joined = False
        self._leaving: asyncio.Task[None] | None = None
        self._shut_down = context.shutdown

    def follow(self) -> None:
        """Report from now on that the agent joins, and how it ends."""
        context = self._context
        fields = {"room": context.job.room.name, "job_id": context.job.id}
        if self._metadata.is_from_gateway:
            fields["call_id"] = self._metadata.call_id
        context.log_context_fields = fields
        context.room.on("connection_state_changed", self._on_connection)
        context.add_shutdown_callback(self._on_shutdown)
        object.__setattr__(context, "shutdown", self._shutdown)

    def _on_connection(self, _: object) -> None:
        if self._joined or not self._context.room.isconnected():
            return
        from worker.call import metrics

        self._joined = True
        job_reports.joined(self._context.job.id)
        metrics.STARTED.inc()
        if (offered_at := sdk.offered_at(self._context)) is not None:
            metrics.JOIN_DURATION.observe(time.time() - offered_at)

    def _shutdown(self, reason: str = "") -> None:
        """Replace the context's `shutdown`, by which the program ends the call."""
        if self._outcome is None:
            self._outcome = CallOutcome.AGENT_ENDED
            self._leaving = asyncio.create_task(self._leave(reason), name="leave")

    async def _leave(self, reason: str) -> None:
        """Record the outcome in the room and leave. Without the record the gateway would consider the agent lost."""
        room = self._context.room
        if self._metadata.is_from_gateway and room.isconnected():
            metadata = with_outcome(room.metadata, CallOutcome.AGENT_ENDED)
            request = api.UpdateRoomMetadataRequest(room=room.name, metadata=metadata)
            try:
                await asyncio.wait_for(self._context.api.room.update_room_metadata(request), budget.RECORD_SECONDS)
            except Exception as error:  # the call must end whatever fails here
                logger.warning("could not record the outcome in the room", extra={"error": type(error).__name__})
        self._shut_down(reason)

    async def _on_shutdown(self, reason: str) -> None:
        from worker.call import metrics

        outcome = self._outcome or _OUTCOMES.get(reason, CallOutcome.STOPPED)
        job_reports.ended(self._context.job.id, outcome)
        seconds = time.monotonic() - self._started
        metrics.ENDED.labels(outcome).inc()
        metrics.CALL_DURATION.observe(seconds)
        logger.info("call ended", extra={"outcome": outcome, "seconds": round(seconds, 1)})


def call_context(context: JobContext) -> CallContext:
    """Return the facts of the call that a program's entrypoint answers."""
    metadata, _ = read_dispatch_metadata(context.job.metadata)
    config = load_settings(os.environ).config.in_language(metadata.language)
    return call_agent.call_context(config, metadata, room=context.job.room.name, job_id=context.job.id)
