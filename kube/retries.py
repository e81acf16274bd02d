"""Decides which failed requests to the API server are sent again at once, and after how long.

A reconcile sends about a dozen requests and starts again when one fails. If the API server rejected every third
request, hardly any reconcile would finish. client-go retries such requests too (rest.Request, "Retry-After").
"""

MAX_RETRIES = 3
"""Retries of one request; after these the caller gets the error and decides."""
INITIAL_BACKOFF_SECONDS = 0.2
MAX_RETRY_AFTER_SECONDS = 5.0
"""A request is not retried when Retry-After is longer than this; the caller gets the error instead."""

_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = frozenset({500, 502, 503, 504})


def retry_delay(method: str, status: int, retry_after: str, retries: int) -> float | None:
    """Seconds to wait before sending a request again that got this HTTP status; None: do not retry.

    `retry_after` is the response's Retry-After header, empty without one. `retries` is the number of retries so far.
    A POST is not retried after a server error, because the server may have carried it out.
    """
    can_retry = status == _TOO_MANY_REQUESTS or (status in _SERVER_ERRORS and method != "POST")
    if not can_retry or retries >= MAX_RETRIES:
        return None
    requested = float(retry_after) if retry_after.isdecimal() else 0.0
    if requested > MAX_RETRY_AFTER_SECONDS:
        return None
    backoff: float = INITIAL_BACKOFF_SECONDS * 2**retries
    return max(requested, backoff)
