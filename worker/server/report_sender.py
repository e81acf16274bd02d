"""Sends the reports of ended calls to the address in `spec.report`, with retries, from the worker's main process.

Reports wait in files (`worker.report_spool`). Their number, their bytes and their age are bounded, and so is the time
that a worker that stops waits for them. A report that is lost is counted and logged, without its content.
"""

import asyncio
import contextlib
import logging
import os
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import aiohttp

from agentspec.names import REPORT_KEY_VARIABLE
from agentspec.signing import decode_key
from agentspec.wire import WorkerConfig
from worker import report_spool
from worker.server import metrics, webhook

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Pause between two looks at the folder."""
MAX_REPORTS: Final = 256
MAX_BYTES: Final = 32 * 1024 * 1024
"""Most reports that wait, in number and in bytes. The oldest ones are dropped."""
MAX_AGE_SECONDS: Final = 24 * 3600.0
"""A report that could not be sent for so long is dropped."""
FIRST_RETRY_SECONDS: Final = 2.0
MAX_RETRY_SECONDS: Final = 300.0
FLUSH_SECONDS: Final = 20.0
"""How long a worker that stops waits for its last reports."""
_FLUSH_PAUSE_SECONDS: Final = 0.2
_MAX_DOUBLINGS: Final = 10
_KNOWN_JOBS: Final = 1024


class Dropped(StrEnum):
    """Why a report is lost: a label of `reports_dropped_total`."""

    REJECTED = "rejected"
    """The receiver answered with a status that will not change: 400, 410, 413 or 422."""
    EXPIRED = "expired"
    FULL = "full"
    """Too many reports, or too many bytes, waited."""
    STOPPED = "stopped"
    """The worker stopped before the receiver accepted it."""
    MISSING = "missing"
    """The call process ended without a report: it was killed, or it could not store the file."""


for _reason in Dropped:
    metrics.REPORTS_DROPPED.labels(_reason.value)


@dataclass
class _Attempts:
    failed: int = 0
    due: float = 0.0
    """When the next attempt is due, in seconds of a monotonic clock."""


class ReportSender:
    """Sends the reports in a folder."""

    def __init__(self, client: aiohttp.ClientSession, url: str, key: bytes, folder: Path) -> None:
        self._client = client
        self._url = url
        self._key = key
        self._folder = folder
        self._attempts: dict[str, _Attempts] = {}
        self._done: deque[str] = deque(maxlen=_KNOWN_JOBS)
        """The newest jobs whose report was sent or dropped."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Send what waits, until the worker stops. A request that has begun is finished: else it would be repeated."""
        while not stopping.is_set():
            try:
                await self.send_due()
            except OSError as error:
                logger.error("could not read the reports of calls", extra={"error": type(error).__name__})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)

    def check(self, job_id: str) -> None:
        """Count the report of a job whose process has ended as lost, if there is none."""
        if job_id not in self._done and not report_spool.path_of(self._folder, job_id).exists():
            self._count(job_id, Dropped.MISSING)

    async def flush(self, seconds: float) -> None:
        """Send what waits, at most so long; drop the rest."""
        for attempts in self._attempts.values():
            attempts.due = 0.0
        try:
            async with asyncio.timeout(seconds):
                while report_spool.waiting(self._folder):
                    await self.send_due()
                    if self._attempts:
                        await asyncio.sleep(_FLUSH_PAUSE_SECONDS)
        except TimeoutError:
            for job_id, _ in report_spool.waiting(self._folder):
                self._drop(job_id, Dropped.STOPPED)

    async def send_due(self) -> None:
        """Make one attempt for every report that is due, the oldest first."""
        waiting = self._within_bounds(report_spool.waiting(self._folder))
        metrics.REPORTS_WAITING.set(len(waiting))
        for job_id in waiting:
            if self._attempts.setdefault(job_id, _Attempts()).due <= time.monotonic():
                await self._send(job_id)
        metrics.REPORTS_WAITING.set(len(self._attempts))

    def _within_bounds(self, waiting: list[tuple[str, int]]) -> list[str]:
        """Drop the oldest of too many reports; return the others."""
        total = sum(size for _, size in waiting)
        excess = len(waiting) - MAX_REPORTS
        kept = []
        for job_id, size in waiting:
            if excess > 0 or total > MAX_BYTES:
                excess, total = excess - 1, total - size
                self._drop(job_id, Dropped.FULL)
            else:
                kept.append(job_id)
        return kept

    async def _send(self, job_id: str) -> None:
        path = report_spool.path_of(self._folder, job_id)
        try:
            body = path.read_bytes()
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:  # another worker of this agent, on the same machine, sent it
            self._forget(job_id)
            return
        delivery = await webhook.post(self._client, self._url, self._key, job_id, int(time.time()), body)
        if not delivery.error:
            metrics.REPORTS_SENT.inc()
            logger.info("report of a call sent", extra={"job_id": job_id, "bytes": len(body)})
            self._forget(job_id)
            path.unlink(missing_ok=True)
        elif delivery.is_final or age > MAX_AGE_SECONDS:
            self._drop(job_id, Dropped.REJECTED if delivery.is_final else Dropped.EXPIRED, delivery.error)
        else:
            self._retry_later(job_id, delivery)

    def _retry_later(self, job_id: str, delivery: webhook.Delivery) -> None:
        attempts = self._attempts[job_id]
        doublings = min(attempts.failed, _MAX_DOUBLINGS)
        backoff = FIRST_RETRY_SECONDS * 2.0**doublings * random.uniform(0.8, 1.2)
        pause = min(max(backoff, delivery.retry_after), MAX_RETRY_SECONDS)
        attempts.failed += 1
        attempts.due = time.monotonic() + pause
        fields = {"job_id": job_id, "error": delivery.error, "retry_seconds": round(pause, 1)}
        logger.warning("report of a call not accepted, retrying", extra=fields)

    def _drop(self, job_id: str, reason: Dropped, error: str = "") -> None:
        report_spool.path_of(self._folder, job_id).unlink(missing_ok=True)
        self._forget(job_id)
        self._count(job_id, reason, error)

    def _forget(self, job_id: str) -> None:
        self._attempts.pop(job_id, None)
        self._done.append(job_id)

    def _count(self, job_id: str, reason: Dropped, error: str = "") -> None:
        metrics.REPORTS_DROPPED.labels(reason).inc()
        logger.error("report of a call lost", extra={"job_id": job_id, "reason": reason.value, "error": error})


@asynccontextmanager
async def sending(config: WorkerConfig, *, has_program: bool) -> AsyncIterator[ReportSender | None]:
    """Send reports within the context, and what is left when it ends. Yields None when calls make no reports."""
    if config.report is None or has_program:
        if config.report is not None:
            logger.warning("spec.report ignored, a whole program answers")
        yield None
        return
    folder = report_spool.folder_of(config.namespace, config.name)
    key = decode_key(os.environ[REPORT_KEY_VARIABLE])
    async with aiohttp.ClientSession() as client:
        sender = ReportSender(client, config.report.url, key, folder)
        stopping = asyncio.Event()
        running = asyncio.create_task(sender.run(stopping), name="send_reports")
        try:
            yield sender
        finally:
            stopping.set()
            began = time.monotonic()
            await asyncio.wait({running}, timeout=FLUSH_SECONDS)
            running.cancel()
            await sender.flush(FLUSH_SECONDS - (time.monotonic() - began))
