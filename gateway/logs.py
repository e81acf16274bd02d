"""Logging: a short constant message and facts as fields; JSON lines, or plain text on a terminal."""

import logging
import sys

from agentspec import logline


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return logline.render(record, record.getMessage(), dict(logline.facts(record)), trace)


class TextFormatter(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{key}={value}" for key, value in logline.facts(record))
        return f"{super().format(record)}  {facts}".rstrip()


def configure_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    handler.setFormatter(text if sys.stderr.isatty() else JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("aiohttp", "livekit", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
