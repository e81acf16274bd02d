"""A queue of keys to reconcile. Each key is processed by one worker at a time; adding it again requeues it.

A key that was idle is processed at once, so that demand is met within milliseconds. Repeated additions of a key are
coalesced to one reconcile per `MIN_INTERVAL_SECONDS`.

The design follows client-go's workqueue. Failed keys are retried after 1, 2, 4 … 60 s.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from controller.observation import Key
from kube.client import ApiError

logger = logging.getLogger(__name__)

MIN_INTERVAL_SECONDS = 0.05
"""Minimum time between the starts of two reconciles of a key: half of the 100 ms in which demand must be met."""
INITIAL_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0


class WorkQueue:
    """Runs `handle` for every key added. It returns seconds to requeue after, or None, and limits its own time."""

    def __init__(
        self,
        handle: Callable[[Key], Awaitable[float | None]],
        workers: int,
        *,
        on_start: Callable[[float], None] = lambda waited: None,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_start` receives the seconds from the first addition of a key until `handle` starts; `on_retry` is called
        when a failed key is queued again."""
        self._handle = handle
        self._workers = workers
        self._on_start = on_start
        self._on_retry = on_retry
        self._added_at: dict[Key, float] = {}
        """Loop time of the first addition of each key since it was last processed."""
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()
        """Keys being processed, and keys whose processing started less than `MIN_INTERVAL_SECONDS` ago."""
        self._requeued: set[Key] = set()
        """Active keys that were added again."""
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Enqueue the key."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._added_at.setdefault(key, asyncio.get_running_loop().time())
        if key in self._active:
            self._requeued.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Enqueue the key after a delay, unless it is due earlier."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self.add, key)

    async def run(self) -> None:
        """Process keys until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._active.add(key)
            self._on_start(loop.time() - self._added_at.pop(key, loop.time()))
            release_at = loop.time() + MIN_INTERVAL_SECONDS
            requeue_after = await self._process(key)
            if requeue_after is not None:
                self.add_after(key, requeue_after)
            loop.call_at(release_at, self._release, key)

    def _release(self, key: Key) -> None:
        self._active.discard(key)
        if key in self._requeued:
            self._requeued.discard(key)
            self.add(key)

    async def _process(self, key: Key) -> float | None:
        try:
            requeue_after = await self._handle(key)
        except (ApiError, TimeoutError) as error:
            delay = self._count_failure(key)
            facts = {"error": str(error) or type(error).__name__, "retry_seconds": delay}
            logger.warning("reconcile failed, retrying", extra={"agent": str(key), **facts})
            return delay
        except Exception:
            delay = self._count_failure(key)
            logger.exception("reconcile crashed, retrying", extra={"agent": str(key), "retry_seconds": delay})
            return delay
        self._failures.pop(key, None)
        return requeue_after

    def _count_failure(self, key: Key) -> float:
        """Count a failure and return the seconds until the retry."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._on_retry()
        return float(min(MAX_BACKOFF_SECONDS, INITIAL_BACKOFF_SECONDS * 2 ** min(failures, 10)))
