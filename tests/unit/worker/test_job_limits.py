"""The limits of one job: its share of the memory, its duration, and who ends it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import soon
from worker.sdk import RunningJob
from worker.server.job_limits import (
    LEAST_SHARE,
    MIB,
    SHARE_WITHOUT_LIMIT,
    JobLimits,
    JobLimitWatch,
    Limit,
    container_memory,
    memory_share,
    private_memory,
)

LIMITS = JobLimits(seconds=360, memory=384 * MIB)


@pytest.mark.parametrize(
    ("seconds", "memory", "limit"),
    [
        (0, 40 * MIB, None),
        (360, 384 * MIB, None),
        (361, 40 * MIB, Limit.LENGTH),
        (10, 385 * MIB, Limit.MEMORY),
        (361, 385 * MIB, Limit.MEMORY),
    ],
    ids=["new call", "at both limits", "too long", "too large", "both: memory is urgent"],
)
def test_limit_that_a_job_exceeds(seconds: float, memory: int, limit: Limit | None) -> None:
    assert LIMITS.exceeded(seconds, memory) is limit


def test_reason_names_the_figures() -> None:
    assert LIMITS.reason(Limit.MEMORY, 500 * MIB) == "the call uses 500 MiB, and its share is 384 MiB"
    assert LIMITS.reason(Limit.LENGTH, 40 * MIB) == "the call has not ended itself within 360 s"


@pytest.mark.parametrize(
    ("container", "slots", "share"),
    [
        (2048 * MIB, 4, 384 * MIB),
        (2048 * MIB, 1, 1536 * MIB),
        (2048 * MIB, 40, LEAST_SHARE),
        (256 * MIB, 1, LEAST_SHARE),
        (None, 4, SHARE_WITHOUT_LIMIT),
    ],
    ids=["default limit", "one slot", "many slots", "small container", "no limit"],
)
def test_share_of_the_containers_memory(container: int | None, slots: int, share: int) -> None:
    assert memory_share(container, slots) == share


@pytest.mark.parametrize(
    ("text", "limit"),
    [("2147483648\n", 2048 * MIB), ("max\n", None), ("9223372036854771712\n", None), ("", None)],
    ids=["limit", "none in v2", "none in v1", "empty"],
)
def test_container_limit_is_read_from_the_first_file(tmp_path: Path, text: str, limit: int | None) -> None:
    (tmp_path / "v2").write_text(text)
    (tmp_path / "v1").write_text("1\n")
    assert container_memory([tmp_path / "missing", tmp_path / "v2", tmp_path / "v1"]) == limit


def test_container_without_a_limit_file_has_none(tmp_path: Path) -> None:
    assert container_memory([tmp_path / "missing"]) is None


def test_private_memory_grows_with_what_the_process_allocates() -> None:
    allocate = "import sys; print(flush=True); input(); kept = bytearray(64 << 20); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", allocate]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        before = private_memory(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        assert before > 0
        assert 60 * MIB < private_memory(process.pid) - before < 70 * MIB
        process.stdin.close()
    assert private_memory(process.pid) == 0, "it has ended"


def test_memory_of_no_process_is_zero() -> None:
    assert private_memory(2**22 + 1) == 0, "larger than any process id"


class Scene:
    """A worker's jobs, their memory, and a clock that stands until the test moves it."""

    def __init__(self, *jobs: str) -> None:
        self.jobs = [RunningJob(job, f"room-of-{job}", pid) for pid, job in enumerate(jobs)]
        self.memory = dict.fromkeys(range(len(jobs)), 40 * MIB)
        self.now = 1000.0
        self.ended: list[tuple[str, Limit]] = []
        self.error: Exception | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.watch = JobLimitWatch(
            LIMITS, lambda: self.jobs, self._end, memory=self.memory.__getitem__, clock=lambda: self.now
        )

    async def _end(self, job: RunningJob, limit: Limit) -> None:
        self.ended.append((job.id, limit))
        await self.may_end.wait()
        if self.error is not None:
            raise self.error

    async def check(self, after: float = 0.0) -> list[tuple[str, Limit]]:
        self.now += after
        await self.watch.check()
        await asyncio.sleep(0)
        return self.ended


async def test_job_without_a_fault_is_left_alone() -> None:
    scene = Scene("AJ_1")
    assert await scene.check() == []
    assert await scene.check(after=360) == []


async def test_job_is_ended_at_the_end_of_its_longest_call() -> None:
    scene = Scene("AJ_1")
    await scene.check()
    scene.jobs.append(RunningJob("AJ_2", "room-of-AJ_2", 0))
    await scene.check(after=200)
    assert await scene.check(after=161) == [("AJ_1", Limit.LENGTH)]
    assert await scene.check(after=200) == [("AJ_1", Limit.LENGTH), ("AJ_2", Limit.LENGTH)]


async def test_only_the_job_that_grows_is_ended() -> None:
    scene = Scene("AJ_1", "AJ_2")
    scene.memory[1] = 500 * MIB
    assert await scene.check() == [("AJ_2", Limit.MEMORY)]


async def test_job_that_is_being_ended_is_not_ended_again() -> None:
    scene = Scene("AJ_1", "AJ_2")
    scene.may_end.clear()
    scene.memory[0] = 500 * MIB
    await scene.check()
    scene.memory[1] = 500 * MIB
    assert await scene.check(after=5) == [("AJ_1", Limit.MEMORY), ("AJ_2", Limit.MEMORY)]
    scene.may_end.set()


async def test_failure_to_end_a_job_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene("AJ_1")
    scene.memory[0], scene.error = 500 * MIB, RuntimeError("bug")
    await scene.check()
    await soon(lambda: "ending a call failed" in caplog.text)
    scene.jobs.clear()
    assert await scene.check() == [("AJ_1", Limit.MEMORY)]


async def test_watch_checks_until_it_is_cancelled() -> None:
    scene = Scene("AJ_1")
    scene.memory[0] = 500 * MIB
    task = asyncio.create_task(scene.watch.run())
    await soon(lambda: scene.ended)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
