"""One JSON object a line on standard error, the SDK's lines included; never a credential or what was said.

Call processes send their records to the worker's main process (livekit-agents, ipc/log_queue.py), so what is set up
here holds for all of them.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import Final

from agentspec import logline

_PERSONAL: Final = "lk.pii."
"""How the SDK marks fields that identify people or repeat what they said."""
_SAID: Final = frozenset({"user_input", "transcript", "text", "body", "payload", "ws_data", "job"})
"""Fields in which the SDK carries transcripts, provider bodies or a dispatch's metadata."""
_QUOTED: Final = re.compile(r"(?<=for text: ).*", re.DOTALL)
"""The SDK's error when a text gave no audio quotes the text (livekit-agents 1.8.9, tts/tts.py)."""
_NOISE: Final = "closed unexpectedly"
"""The native library's error for each data channel of a room that was deleted, as every call's is in the end."""
_REDACTED: Final = "[redacted]"
_QUIET: Final = ("asyncio", "httpx", "httpx2", "httpcore", "httpcore2", "openai", "aiohttp.access")


class JsonFormatter(logging.Formatter):
    """Renders a record; the values of `secrets` never appear in the result."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = [json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets if len(secret) >= 6]

    def format(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
        # A call process' record comes with the traceback in the message too.
        message = _QUOTED.sub(_REDACTED, record.getMessage().removesuffix(f"\n{trace}"))
        fields = {name: value for name, value in logline.facts(record) if not _left_out(name)}
        text = logline.render(record, message, fields, _QUOTED.sub(_REDACTED, trace))
        for secret in self._secrets:
            text = text.replace(secret, _REDACTED)
        return text


def _left_out(field: str) -> bool:
    return field in _SAID or field.startswith(_PERSONAL)


def set_up(secrets: Iterable[str]) -> None:
    """Log to standard error from now on; call once, in the main process, before the SDK starts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(secrets))
    handler.addFilter(lambda record: not (record.name == "livekit" and _NOISE in record.getMessage()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("livekit").setLevel(logging.ERROR)  # the native library warns about its own shutdown
    logging.getLogger("livekit.agents").setLevel(logging.INFO)
    logging.getLogger("livekit.plugins").setLevel(logging.INFO)
