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


def _unreachable_is_no_error(record: logging.LogRecord) -> bool:
    """kopf calls every request that it will repeat an error, such as all of those while the API server restarts."""
    if record.name.startswith("kopf._cogs.clients.") and record.levelno == logging.ERROR:
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def _tells_of_a_secret(record: logging.LogRecord) -> bool:
    """PyJWT warns of short keys and says how long they are; LiveKit says itself whether it accepts them."""
    return "InsecureKeyLengthWarning" in record.getMessage()


def configure() -> None:
    """Send everything to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    handler.addFilter(_unreachable_is_no_error)
    handler.addFilter(lambda record: not _tells_of_a_secret(record))
    logging.captureWarnings(True)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # tells of every event handled
