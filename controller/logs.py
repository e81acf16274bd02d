"""Logs: one JSON object a line; a short constant message, facts as fields, never keys, tokens or texts of calls."""

import logging
import sys

from agentspec import logline

_KOPF_FIELDS = frozenset({"k8s_ref", "k8s_skip", "settings"})


class JSONFormatter(logging.Formatter):
    """Writes every fact passed as ``extra`` as a field."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in logline.facts(record) if name not in _KOPF_FIELDS}
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return logline.render(record, record.getMessage(), fields, trace)


def configure() -> None:
    """Send everything to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # tells of every event handled
