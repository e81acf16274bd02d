"""Keeping access tokens out of logs and reports: LiveKit's client library puts them into its error messages."""

from __future__ import annotations

import logging
import re

_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")


def without_tokens(text: str) -> str:
    """Return `text` with every JSON web token replaced."""
    return _TOKEN.sub("<token>", text)


class TokenFilter(logging.Filter):
    """Takes the tokens out of every record that passes through a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record's message and let it pass."""
        record.msg, record.args = without_tokens(record.getMessage()), None
        return True
