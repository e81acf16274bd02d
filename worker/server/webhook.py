"""One request with a report, signed as Standard Webhooks defines it, so that receivers can use its libraries.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import aiohttp

REQUEST_SECONDS: Final = 15.0
"""Longest duration of a request; the specification recommends 15 to 30 s."""
_FINAL_STATUSES: Final = frozenset({400, 410, 413, 422})
"""The receiver will never accept this report, so it is not sent again. All other failures can pass."""


@dataclass(frozen=True)
class Delivery:
    """How a request ended. Its receiver accepted the report when `error` is empty."""

    error: str = ""
    """The status, or the type of the error. Never text of the receiver, which may quote the report."""
    is_final: bool = False
    """Another attempt would fail too."""
    retry_after: float = 0.0
    """How long the receiver asked to wait, in seconds."""


def signed(key: bytes, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers of a request; `at` is in Unix seconds."""
    content = b".".join((message_id.encode(), str(at).encode(), body))
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}


async def post(client: aiohttp.ClientSession, url: str, key: bytes, message_id: str, at: int, body: bytes) -> Delivery:
    """Send a report. Redirects are not followed: the report is for the declared receiver only. Never raises."""
    headers = {"Content-Type": "application/json", **signed(key, message_id, at, body)}
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    try:
        async with client.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as answer:
            if 200 <= answer.status < 300:
                return Delivery()
            asked = answer.headers.get("Retry-After", "")
            return Delivery(
                f"HTTP {answer.status}", answer.status in _FINAL_STATUSES, float(asked) if _is_number(asked) else 0.0
            )
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # ValueError: no name of a host
        return Delivery(type(error).__name__)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 9
