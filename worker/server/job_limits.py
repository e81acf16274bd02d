"""Limits of one job, which the main process enforces: a call that no longer ends itself is ended alone.

A call ends itself at `maxCallMinutes`. Its process cannot when its event loop hangs, and no process limits its own
memory. Without a limit, one call that grows would make the kernel kill every process of the container.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from worker.sdk import RunningJob

logger = logging.getLogger(__name__)

MIB: Final = 1024**2
CHECK_SECONDS: Final = 5.0
"""Pause between two checks. Reading the memory of one process takes some milliseconds."""
SHARED_MEMORY: Final = 512 * MIB
"""What a worker takes before its first call: models, libraries and the idle call processes."""
LEAST_SHARE: Final = 256 * MIB
"""A call takes 40 MiB, so this is no limit for a call that works."""
SHARE_WITHOUT_LIMIT: Final = 700 * MIB
"""The share of a call in a container without a memory limit."""

_CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""The container's memory limit in cgroup v2 and v1."""
_NO_LIMIT: Final = 1 << 60
"""cgroup v1 shows the largest possible number when there is no limit."""


class Limit(StrEnum):
    """A limit that a job exceeded."""

    LENGTH = "length"
    """`maxCallMinutes`, and the time to close after it."""
    MEMORY = "memory"
    """The call's share of the container's memory."""


@dataclass(frozen=True)
class JobLimits:
    """What one job may use."""

    seconds: float
    memory: int
    """Bytes that only its process uses."""

    def exceeded(self, seconds: float, memory: int) -> Limit | None:
        """Return the limit that a job exceeds which has run this long and uses this much; None if there is none."""
        if memory > self.memory:
            return Limit.MEMORY
        return Limit.LENGTH if seconds > self.seconds else None

    def reason(self, limit: Limit, memory: int) -> str:
        """Return the sentence for the log about a job that exceeded a limit."""
        if limit is Limit.MEMORY:
            return f"the call uses {memory // MIB} MiB, and its share is {self.memory // MIB} MiB"
        return f"the call has not ended itself within {self.seconds:g} s"


def memory_share(container: int | None, slots: int) -> int:
    """Return the bytes for one call of a worker, given its container's memory limit in bytes, or None without one."""
    if container is None:
        return SHARE_WITHOUT_LIMIT
    return max(LEAST_SHARE, (container - SHARED_MEMORY) // slots)


def container_memory(files: Iterable[Path] = _CGROUP_LIMITS) -> int | None:
    """Return the container's memory limit in bytes; None: there is none, or it is unknown."""
    for file in files:
        with suppress(OSError):
            text = file.read_text().strip()
            return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None
    return None


def private_memory(pid: int) -> int:
    """Return the bytes that only this process uses; 0 once it has ended.

    Memory that call processes share with the fork server does not count: their end does not free it.
    """
    with suppress(OSError, ValueError):
        lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
        return 1024 * sum(int(line[1]) for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:", "Swap:"))
    return 0


class JobLimitWatch:
    """Compares the running jobs with their limits."""

    def __init__(
        self,
        limits: JobLimits,
        jobs: Callable[[], Iterable[RunningJob]],
        end: Callable[[RunningJob, Limit], Awaitable[None]],
        *,
        memory: Callable[[int], int] = private_memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`end` ends a job that exceeds a limit. It is called once for each job, in a task of its own."""
        self._limits = limits
        self._jobs = jobs
        self._end = end
        self._memory = memory
        self._clock = clock
        self._since: dict[str, float] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """End every job that exceeds a limit."""
        jobs = {job.id: job for job in self._jobs()}
        now = self._clock()
        self._since = {id_: self._since.get(id_, now) for id_ in jobs}
        self._ending = {id_: task for id_, task in self._ending.items() if id_ in jobs or not task.done()}
        for id_ in jobs.keys() - self._ending.keys():
            memory = await asyncio.to_thread(self._memory, jobs[id_].pid)
            limit = self._limits.exceeded(now - self._since[id_], memory)
            if limit is not None:
                self._ending[id_] = asyncio.create_task(self._end_job(jobs[id_], limit, memory), name="end_job")

    async def _end_job(self, job: RunningJob, limit: Limit, memory: int) -> None:
        logger.error(
            "call exceeded a limit, ending it",
            extra={"job_id": job.id, "room": job.room, "reason": self._limits.reason(limit, memory)},
        )
        try:
            await self._end(job, limit)
        except Exception as error:
            logger.exception("ending a call failed", extra={"job_id": job.id, "error": type(error).__name__})
