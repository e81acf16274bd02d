"""Changes in a burst, as by a person or two pipelines at work: each is seen by itself, and one rollout is for all."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from controller.policy.rollout import MAX_WAIT_SECONDS, QUIET_SECONDS

BETWEEN_SECONDS = 0.5
_SEEN_SECONDS = 0.5
"""How much later than it was made a change may be seen."""


async def burst(changes: int, change: Callable[[int], Awaitable[None]]) -> int:
    """Make so many changes. Gives how many bursts they were: one, unless this machine stood still meanwhile for so long
    that whoever waits for a change to stand still was right to go on.
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
