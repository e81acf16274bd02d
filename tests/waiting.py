"""Waits, with a time limit, for a state that another process, thread or task causes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
SECONDS = 30.0
_POLL_SECONDS = 0.1
_BLOCKING_POLL_SECONDS = 0.3
"""Longer, because most blocking functions start a kubectl."""
_SOON_SECONDS = 20.0


async def eventually(observe: Callable[[], Awaitable[T]], what: str, seconds: float = SECONDS) -> T:
    """Call `observe` until it returns something true, and return that. Raises AssertionError with the last result."""
    deadline = time.monotonic() + seconds
    while not (seen := await observe()):
        _check_time(deadline, what, seconds, seen)
        await asyncio.sleep(_POLL_SECONDS)
    return seen


def eventually_blocking(observe: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """Do the same outside of an event loop; the calling thread blocks."""
    deadline = time.monotonic() + seconds
    while not (seen := observe()):
        _check_time(deadline, what, seconds, seen)
        time.sleep(_BLOCKING_POLL_SECONDS)
    return seen


async def eventually_in_thread(observe: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """Do the same for a blocking function in its own thread; the event loop continues meanwhile."""
    return await asyncio.to_thread(eventually_blocking, observe, what, seconds)


def _check_time(deadline: float, what: str, seconds: float, seen: object) -> None:
    if time.monotonic() > deadline:
        raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {seen!r}")


async def soon(is_so: Callable[[], object]) -> None:
    """Wait for a state of this very process, which takes milliseconds on an idle machine.

    Raises TimeoutError after 20 s.
    """
    async with asyncio.timeout(_SOON_SECONDS):
        while not is_so():  # noqa: ASYNC110 - several tasks may cause the state, and none signals it
            await asyncio.sleep(0.002)
