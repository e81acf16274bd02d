"""A burst of changes, as two pipelines may make: the controller sees each of them, and rolls out once."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from controller.policy.rollout import MAX_WAIT_SECONDS, QUIET_SECONDS

BETWEEN_SECONDS = 0.5
_SEEN_SECONDS = 1.0
"""Longest delay until the controller sees a change, on a busy machine."""


async def burst(changes: int, change: Callable[[int], Awaitable[None]]) -> int:
    """Make this many changes, and return the number of bursts: 1, unless this machine paused so long that the
    controller rightly started a rollout in between.
    """
    bursts, first, last = 1, float("inf"), float("inf")
    for number in range(changes):
        started = time.monotonic()
        first = min(first, started)
        await change(number)
        now = time.monotonic()
        if now - last > QUIET_SECONDS - _SEEN_SECONDS or now - first > MAX_WAIT_SECONDS - _SEEN_SECONDS:
            bursts, first = bursts + 1, started
        last = started
        await asyncio.sleep(BETWEEN_SECONDS)
    return bursts
