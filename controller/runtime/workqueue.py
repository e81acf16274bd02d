"""A queue of keys to reconcile: no key is in hand twice at once, and a key added while in hand is taken up again.

A key that was left alone is taken up at once, so that demand is answered in milliseconds; what comes right after is put
together.

The shape is client-go's workqueue. Failures come back after 1, 2, 4 … 60 s.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from controller.observation import Key
from kube.client import ApiError

logger = logging.getLogger(__name__)

LEAST_SECONDS = 0.05
"""From taking a key up to taking it up again: half of the 100 ms in which demand is decided on."""
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
HANDLING_TIMEOUT_SECONDS = 90.0
"""Longer than one request to the API server (30 s) and one to LiveKit (5 s) may take together."""


class WorkQueue:
    """Runs `handle` for every key added; it returns in how many seconds to look again, or None for never."""

    def __init__(self, handle: Callable[[Key], Awaitable[float | None]], workers: int) -> None:
        self._handle = handle
        self._workers = workers
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._in_hand: set[Key] = set()
        """And those taken up less than LEAST_SECONDS ago."""
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Take the key up as soon as possible."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._in_hand:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Take the key up after a while, unless it is due earlier."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self.add, key)

    async def run(self) -> None:
        """Work until cancelled."""
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
            self._in_hand.add(key)
            rested = loop.time() + LEAST_SECONDS
            again_in = await self._handled(key)
            if again_in is not None:
                self.add_after(key, again_in)
            loop.call_at(rested, self._rested, key)

    def _rested(self, key: Key) -> None:
        self._in_hand.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    async def _handled(self, key: Key) -> float | None:
        try:
            async with asyncio.timeout(HANDLING_TIMEOUT_SECONDS):
                again_in = await self._handle(key)
        except (ApiError, TimeoutError) as error:
            delay = self._failed(key)
            facts = {"error": str(error) or type(error).__name__, "retry_seconds": delay}
            logger.warning("reconcile put off", extra={"agent": str(key), **facts})
            return delay
        except Exception:
            delay = self._failed(key)
            logger.exception("reconcile failed", extra={"agent": str(key), "retry_seconds": delay})
            return delay
        self._failures.pop(key, None)
        return again_in

    def _failed(self, key: Key) -> float:
        """Count a failure; seconds until the next try."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        return float(min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(failures, 10)))
