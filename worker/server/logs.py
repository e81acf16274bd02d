"""The worker's log: without credentials, personal data, or what callers and agents say.

Call processes send their records to the worker's main process (livekit-agents, ipc/log_queue.py), so this set-up
applies to all of them.
"""

import logging
import re
from collections.abc import Iterable
from typing import Final

from process import logs

_PERSONAL_PREFIX: Final = "lk.pii."
"""How the SDK marks fields that identify people or repeat what they said."""
_SPOKEN_FIELDS: Final = frozenset({"user_input", "transcript", "text", "body", "payload", "ws_data", "job"})
"""Fields in which the SDK carries transcripts, provider bodies or a dispatch's metadata."""
_QUOTED_TEXT: Final = re.compile(r"(?<=for text: ).*", re.DOTALL)
"""The SDK's error when a text gave no audio quotes the text (livekit-agents 1.8.9, tts/tts.py)."""
_HARMLESS: Final = {
    "livekit": re.compile(
        "closed unexpectedly|Failed to publish RPC request|ByteStream(Write|Close).*handle not found"
        "|received for unexpected RPC request|failed to send dc_event"
    ),
    "livekit.agents": re.compile("failed to perform clear buffer rpc|Realtime API returned .*code='item_not_found'"),
    "asyncio": re.compile(
        r"Task exception was never retrieved.*(StreamError\(|BaseStreamWriter\.aclose\(\) .*AssertionError\(\))",
        re.DOTALL,
    ),
}
"""Errors that livekit-agents 1.8.9 and livekit 1.1.21 log, by logger, about what the worker handles itself.

Every call's room is deleted when it ends, under open channels, streams and requests. A stream that breaks during a call
is logged by worker/call/watched_output.py. An avatar that answers a request after its time limit is not unexpected: the
call has gone on without it (worker/call/avatar_watch.py). After a lost connection to a realtime model, the SDK edits
items that the provider no longer has (worker/realtime.py)."""
_LEVELS: Final = {
    **dict.fromkeys(
        ("asyncio", "httpx", "httpx2", "httpcore", "httpcore2", "openai", "aiohttp.access"), logging.WARNING
    ),
    "livekit": logging.ERROR,  # the native library warns about its own shutdown
    "livekit.agents": logging.INFO,
    "livekit.plugins": logging.INFO,
}


def omits(field: str) -> bool:
    """Return whether a field may hold personal data or what was said."""
    return field in _SPOKEN_FIELDS or field.startswith(_PERSONAL_PREFIX)


def is_relevant(record: logging.LogRecord) -> bool:
    """Return False for SDK messages that report no fault, so that the log omits them."""
    pattern = _HARMLESS.get(record.name)
    return pattern is None or pattern.search(record.getMessage()) is None


def redact_quoted_text(record: logging.LogRecord) -> bool:
    """Redact the text that the SDK quotes, and keep a traceback out of the message."""
    trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else record.exc_text or ""
    # The message of a record from a call process ends with the traceback.
    record.msg = _QUOTED_TEXT.sub(logs.REDACTED, record.getMessage().removesuffix(f"\n{trace}"))
    record.args = None
    record.exc_info, record.exc_text = None, _QUOTED_TEXT.sub(logs.REDACTED, trace)
    return True


def configure(secrets: Iterable[str]) -> None:
    """Set up logging; call this in the main process, before the SDK starts. No line contains any of `secrets`."""
    logs.configure(filters=[is_relevant, redact_quoted_text], omits=omits, secrets=secrets, levels=_LEVELS)
