"""Logs: one JSON object a line; a short constant message, facts as fields, never keys, tokens or texts of calls."""

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_KOPF_FIELDS = frozenset({"k8s_ref", "k8s_skip", "settings"})


class JSONFormatter(logging.Formatter):
    """Writes every fact passed as ``extra`` as a field."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        hidden = _STANDARD | _KOPF_FIELDS
        entry.update((name, value) for name, value in vars(record).items() if name not in hidden)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure() -> None:
    """Send everything to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # tells of every event handled
