"""Waiting for what somebody else brings about: as long as it takes, and no longer than it may."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
SECONDS = 30.0


async def eventually(look: Callable[[], Awaitable[T]], what: str, seconds: float = SECONDS) -> T:
    """The first true thing that `look` returns; fails with what it saw last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {seen!r}")
        await asyncio.sleep(0.1)


async def soon(fact: Callable[[], object]) -> None:
    """Until something is so in this very process, where it takes milliseconds. Raises TimeoutError."""
    async with asyncio.timeout(5):
        while not fact():  # noqa: ASYNC110 - several things may bring it about, and none of them tells
            await asyncio.sleep(0.002)
