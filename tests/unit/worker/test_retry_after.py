"""How long a provider asks its client to wait, and in which task that is known."""

import asyncio
import email.utils
import time
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker import retry_after


@pytest.mark.parametrize(
    ("header", "seconds"), [("0", 0.0), ("2", 2.0), ("1.5", 1.5), ("-3", 0.0), ("", None), ("soon", None)]
)
def test_seconds_are_read(header: str, seconds: float | None) -> None:
    assert retry_after.parse(header) == seconds


@pytest.mark.parametrize(("ahead", "at_least", "at_most"), [(3600, 3500, 3601), (-3600, 0, 0)], ids=["future", "past"])
def test_date_is_read(ahead: float, at_least: float, at_most: float) -> None:
    seconds = retry_after.parse(email.utils.formatdate(time.time() + ahead, usegmt=True))
    assert seconds is not None and at_least <= seconds <= at_most


def remembered(status: int) -> Coroutine[None, None, None]:
    """Remember a response with a status that asks for 2 s."""
    response = SimpleNamespace(status_code=status, headers={"retry-after": "2"})
    return retry_after.remember(cast(Any, response))


async def test_only_rate_limits_ask_for_a_wait() -> None:
    await remembered(429)
    assert retry_after.seconds() == 2.0
    await remembered(503)
    assert retry_after.seconds() is None
    await remembered(429)
    retry_after.forget()
    assert retry_after.seconds() is None


async def test_requests_of_other_tasks_are_not_known() -> None:
    await asyncio.create_task(remembered(429))
    assert retry_after.seconds() is None
