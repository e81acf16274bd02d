"""The shape of a log line, the same in every process: whoever reads the logs of a call reads those of all three."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def facts(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """What was passed as ``extra``: the record's fields that logging itself does not set."""
    return ((name, value) for name, value in vars(record).items() if name not in _STANDARD)


def render(record: logging.LogRecord, message: str, fields: dict[str, object], exception: str) -> str:
    """One JSON object: time (UTC), level, logger, message, the fields, and the traceback when there is one."""
    line: dict[str, object] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message,
    }
    line |= fields
    if exception:
        line["exception"] = exception
    return json.dumps(line, default=str, ensure_ascii=False)
