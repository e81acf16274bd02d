"""When a request to the API server is worth repeating at once.

A reconcile is a dozen requests, and begins anew when one fails: under an API server that refuses every third it would
hardly ever come to its end. client-go repeats such requests too (rest.Request, "Retry-After").
"""

REPEATS = 3
"""Times that a request is repeated at most; then whoever asked has to see, and tries everything again later."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
"""Who is told to stay away for longer gives up the request."""

_BUSY = 429
_AT_FAULT = frozenset({500, 502, 503, 504})


def pause(method: str, status: int, retry_after: str, repeated: int) -> float | None:
    """Seconds after which to repeat a request that was answered with this status; None: not at all.

    `retry_after` is the answer's header, empty without one; `repeated` is how often the request was repeated already.
    A POST whose answer is a server's fault may have been done.
    """
    worth_it = status == _BUSY or (status in _AT_FAULT and method != "POST")
    if not worth_it or repeated >= REPEATS:
        return None
    asked = float(retry_after) if retry_after.isdecimal() else 0.0
    return max(asked, FIRST_PAUSE_SECONDS * 2**repeated) if asked <= LONGEST_PAUSE_SECONDS else None
