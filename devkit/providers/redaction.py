"""Removes access tokens from logs and reports, because LiveKit's client library includes them in error messages."""

from __future__ import annotations

import logging
import re

_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")


def without_tokens(text: str) -> str:
    """Return `text` with every JSON web token replaced."""
    return _TOKEN.sub("<token>", text)


class TokenFilter(logging.Filter):
    """Removes tokens from every record of a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message of the record; never drop it."""
        record.msg, record.args = without_tokens(record.getMessage()), None
        return True
