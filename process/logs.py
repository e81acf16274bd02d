"""One JSON object a line on standard error: a constant message, and facts as fields.

Every line has `time` (UTC, milliseconds), `level`, `logger` and `message`, then the fields passed as ``extra``, and
`exception` if there is one. On a terminal the same content is readable text.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

RecordFilter = Callable[[logging.LogRecord], bool]
"""Returns whether to log a record. It may change the record first."""

REDACTED: Final = "[redacted]"
_MIN_SECRET_LENGTH: Final = 6
"""Shorter secrets would redact ordinary words."""
_NOT_FIELDS: Final = (*RESERVED_ATTRS, "taskName", "color_message")


def _no_field(_: str) -> bool:
    return False


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text without any of `secrets`. Those that are too short to be one stay."""
    for secret in secrets:
        if len(secret) >= _MIN_SECRET_LENGTH:
            text = text.replace(secret, REDACTED)
    return text


class LogFormatter(JsonFormatter):
    """Formats a record as a JSON object.

    `omits` returns true for the name of a field to leave out. No line contains any of `secrets`.
    """

    def __init__(self, *, omits: Callable[[str], bool] = _no_field, secrets: Iterable[str] = ()) -> None:
        super().__init__(
            ["name", "message"],
            rename_fields={"name": "logger", "exc_info": "exception", "stack_info": "stack"},
            reserved_attrs=_NOT_FIELDS,
            json_default=str,
            json_ensure_ascii=False,
        )
        self._omits = omits
        long_enough = [secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH]
        escaped = [json.dumps(secret, ensure_ascii=False)[1:-1] for secret in long_enough]
        self._secrets = dict.fromkeys(escaped + long_enough)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname.lower()
        super().add_fields(log_data, record, message_dict)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in log_data.items() if not self._omits(name)}

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._secrets)


class TextFormatter(LogFormatter):
    """Formats a record as text for a terminal."""

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        time, level, logger, message = (log_data.pop(name) for name in ("time", "level", "logger", "message"))
        exception = log_data.pop("exception", "")
        fields = "".join(f" {name}={value}" for name, value in log_data.items())
        return f"{time} {level:<8} {logger}  {message} {fields}".rstrip() + (f"\n{exception}" if exception else "")


def reveals_no_key(record: logging.LogRecord) -> bool:
    """Drop PyJWT's warning about a short key, which reveals the key's length. LiveKit itself rejects invalid keys."""
    return "InsecureKeyLengthWarning" not in record.getMessage()


def configure(
    *,
    filters: Iterable[RecordFilter] = (),
    omits: Callable[[str], bool] = _no_field,
    secrets: Iterable[str] = (),
    levels: Mapping[str, int] | None = None,
) -> None:
    """Send the records of all loggers, and Python's warnings, to standard error.

    The level is INFO, except for the loggers in `levels`. `filters` decide about each record; for `omits` and
    `secrets` see LogFormatter.
    """
    handler = logging.StreamHandler(sys.stderr)
    formatter = TextFormatter if sys.stderr.isatty() else LogFormatter
    handler.setFormatter(formatter(omits=omits, secrets=secrets))
    for record_filter in (reveals_no_key, *filters):
        handler.addFilter(record_filter)
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name, level in (levels or {}).items():
        logging.getLogger(name).setLevel(level)
