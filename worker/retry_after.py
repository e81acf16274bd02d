"""How long a provider asks its client to wait: the header Retry-After of an answer with status 429.

The OpenAI plugin drops the headers of an answer. A hook of the HTTP client keeps this one for the task of the request.
"""

from __future__ import annotations

import email.utils
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2  # the OpenAI client's HTTP library

_seconds: ContextVar[float | None] = ContextVar("retry_after_seconds", default=None)


async def remember(response: httpx2.Response) -> None:
    """Remember what the answer asks for. A response hook of the HTTP client."""
    _seconds.set(parse(response.headers.get("retry-after", "")) if response.status_code == 429 else None)


def forget() -> None:
    """Forget what an earlier request of this task was asked for."""
    _seconds.set(None)


def seconds() -> float | None:
    """Return the wait that the last answer to this task asks for; None when it asks for none."""
    return _seconds.get()


def parse(header: str) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date (RFC 9110); None for anything else."""
    try:
        return max(0.0, float(header))
    except ValueError:
        date = email.utils.parsedate_tz(header)
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
