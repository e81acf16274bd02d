"""The work queue: one worker per key at a time, no key is lost, and failed keys are retried."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest

from controller.observation import Key
from controller.runtime import workqueue
from controller.runtime.workqueue import MIN_INTERVAL_SECONDS, WorkQueue
from kube.client import ApiError
from tests.unit.fakes.virtualtime import now

pytestmark = pytest.mark.usefixtures("virtual_time")

ONE, TWO = Key("shop", "one"), Key("shop", "two")


@asynccontextmanager
async def working(handle: Callable[[Key], Awaitable[float | None]], workers: int = 4) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(handle, workers)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_key_added_many_times_is_processed_once() -> None:
    handled = asyncio.Queue[Key]()

    async def handle(key: Key) -> None:
        handled.put_nowait(key)

    async with working(handle) as queue:
        for _ in range(5):
            queue.add(ONE)
        queue.add(TWO)
        assert {await handled.get(), await handled.get()} == {ONE, TWO}
        await asyncio.sleep(60)
        assert handled.empty()


async def test_key_added_while_processed_is_requeued() -> None:
    inside, most, rounds = 0, 0, 0
    entered, leave = asyncio.Event(), asyncio.Event()
    done = asyncio.Event()

    async def handle(key: Key) -> None:
        nonlocal inside, most, rounds
        inside, rounds = inside + 1, rounds + 1
        most = max(most, inside)
        entered.set()
        await leave.wait()
        inside -= 1
        if rounds == 2:
            done.set()

    async with working(handle) as queue:
        queue.add(ONE)
        await entered.wait()
        queue.add(ONE)
        queue.add(ONE)
        leave.set()
        await asyncio.wait_for(done.wait(), 5)
        assert (most, rounds) == (1, 2)


async def test_key_is_requeued_after_the_returned_delay() -> None:
    times = asyncio.Queue[float]()

    async def handle(key: Key) -> float | None:
        times.put_nowait(now())
        return 0.05 if times.qsize() < 2 else None

    async with working(handle) as queue:
        queue.add(ONE)
        first = await asyncio.wait_for(times.get(), 5)
        second = await asyncio.wait_for(times.get(), 5)
        assert second - first >= 0.05


async def test_earlier_of_two_delays_counts() -> None:
    handled = asyncio.Event()

    async def handle(key: Key) -> None:
        handled.set()

    async with working(handle) as queue:
        queue.add_after(ONE, 0.01)
        queue.add_after(ONE, 600)
        await asyncio.wait_for(handled.wait(), 5)


@pytest.mark.parametrize(
    "error",
    [ApiError(409, "Conflict", "PATCH /x", "again"), RuntimeError("an internal error"), TimeoutError()],
    ids=["API error", "internal error", "timeout"],
)
async def test_failed_key_is_retried(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workqueue, "INITIAL_BACKOFF_SECONDS", 0.01)
    attempts = 0
    succeeded = asyncio.Event()

    async def handle(key: Key) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise error
        succeeded.set()

    async with working(handle) as queue:
        queue.add(ONE)
        await asyncio.wait_for(succeeded.wait(), 5)
    delays = [getattr(record, "retry_seconds", None) for record in caplog.records]
    assert delays == [0.01, 0.02], "with a growing backoff"
    internal = isinstance(error, RuntimeError)
    assert {record.levelname for record in caplog.records} == {"ERROR" if internal else "WARNING"}


async def test_failing_key_does_not_delay_other_keys() -> None:
    handled = asyncio.Event()

    async def handle(key: Key) -> None:
        if key == ONE:
            raise RuntimeError
        handled.set()

    async with working(handle, workers=1) as queue:
        queue.add(ONE)
        queue.add(TWO)
        await asyncio.wait_for(handled.wait(), 5)


async def test_backoff_grows_to_a_minute_and_success_resets_it() -> None:
    times: list[float] = []

    async def handle(key: Key) -> float | None:
        times.append(now())
        if len(times) == 10:
            return 7.0
        raise ApiError(500, "InternalError", "PATCH /x", "again")

    async with working(handle) as queue:
        queue.add(ONE)
        await asyncio.sleep(400)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[:12] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 7, 1, 2]


async def test_queue_reports_waits_and_retries() -> None:
    waits: list[float] = []
    retries: list[float] = []
    leave = asyncio.Event()

    async def handle(key: Key) -> None:
        await leave.wait()
        if len(waits) < 3:
            raise ApiError(500, "Down", "GET", "not now")

    queue = WorkQueue(handle, 1, on_start=waits.append, on_retry=lambda: retries.append(now()))
    task = asyncio.create_task(queue.run())
    queue.add(ONE)
    queue.add(TWO)
    await asyncio.sleep(3)
    queue.add(TWO)  # it is in the queue already: the first addition counts
    leave.set()
    await asyncio.sleep(10)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert waits == [0, 3, 0, 0], "a delay before a retry is no wait"
    assert retries == [3, 3]


async def test_length_counts_waiting_keys() -> None:
    leave = asyncio.Event()

    async def handle(key: Key) -> None:
        await leave.wait()

    async with working(handle) as queue:
        keys = [Key("shop", f"agent-{number}") for number in range(10)]
        for key in keys:
            queue.add(key)
        assert len(queue) == 10
        await asyncio.sleep(1)
        assert len(queue) == 6, "four are being processed"
        queue.add_after(Key("shop", "later"), 60)
        assert len(queue) == 6
        leave.set()
        await asyncio.sleep(1)
        assert len(queue) == 0


async def test_adding_a_key_cancels_its_delayed_requeue() -> None:
    times: list[float] = []

    async def handle(key: Key) -> None:
        times.append(now())

    async with working(handle) as queue:
        queue.add_after(ONE, 60)
        await asyncio.sleep(10)
        queue.add(ONE)
        await asyncio.sleep(100)
    assert times == [10]


async def test_repeated_additions_are_coalesced() -> None:
    times: list[float] = []

    async def handle(key: Key) -> None:
        times.append(now())

    async with working(handle) as queue:
        for _ in range(1000):
            queue.add(ONE)
            await asyncio.sleep(0.001)
        last = now()
        queue.add(ONE)
        await asyncio.sleep(MIN_INTERVAL_SECONDS)
        assert last <= times[-1] <= last + MIN_INTERVAL_SECONDS
        count = len(times)
        await asyncio.sleep(10)
        assert len(times) == count, "the key stays idle afterwards"
    assert times[0] == 0
    assert min(later - earlier for earlier, later in pairwise(times)) >= MIN_INTERVAL_SECONDS - 1e-9
    assert len(times) <= 1.1 / MIN_INTERVAL_SECONDS


async def test_minimum_interval_applies_per_key() -> None:
    taken: list[tuple[Key, float]] = []

    async def handle(key: Key) -> None:
        taken.append((key, now()))
        await asyncio.sleep(2 * MIN_INTERVAL_SECONDS)

    async with working(handle) as queue:
        queue.add(ONE)
        await asyncio.sleep(MIN_INTERVAL_SECONDS / 2)
        queue.add(TWO)
        queue.add(ONE)
        await asyncio.sleep(10)
    assert taken == [(ONE, 0), (TWO, MIN_INTERVAL_SECONDS / 2), (ONE, 2 * MIN_INTERVAL_SECONDS)], (
        "the interval has passed meanwhile"
    )
