"""The log's form, and what never gets into it."""

import json
import logging
import subprocess
import sys

import pytest

from controller.runtime.logs import JSONFormatter, configure


def test_a_log_line_is_one_object_with_facts_as_fields() -> None:
    record = logging.makeLogRecord({"name": "controller.x", "levelname": "INFO", "msg": "scaled", "agent": "shop/ava"})
    entry = json.loads(JSONFormatter().format(record))
    assert (entry["message"], entry["agent"], entry["level"]) == ("scaled", "shop/ava", "info")
    assert "args" not in entry
    assert entry["time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("logger", "level"),
    [("kopf._cogs.clients.watching", "warning"), ("kopf._core.reactor.queueing", "error"), ("controller.x", "error")],
    ids=["kopf repeats a request", "kopf fails", "the controller fails"],
)
def test_an_api_server_that_is_away_is_no_error(logger: str, level: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept = logging.root.handlers[:], logging.root.level
    logging.root.handlers.clear()  # or configure() would close those of pytest
    try:
        configure()
        logging.getLogger(logger).error("Request attempt #1/9 failed; will retry")
    finally:
        logging.root.handlers[:], logging.root.level = kept
        logging.captureWarnings(False)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["level"] == level


WARNED = """
import logging, warnings
import jwt
from controller.runtime import logs

logs.configure()
jwt.encode({"iss": "key"}, "short", algorithm="HS256")
jwt.decode(jwt.encode({}, "short"), "short", algorithms=["HS256"])
warnings.warn("two\\nlines")
logging.getLogger("controller.x").info("the end")
"""


def test_how_long_a_key_is_stands_in_no_log_and_other_warnings_are_lines_like_all() -> None:
    ended = subprocess.run([sys.executable, "-c", WARNED], capture_output=True, text=True, check=True, timeout=60)
    warned, last = (json.loads(line) for line in ended.stderr.splitlines())
    assert (warned["level"], warned["logger"]) == ("warning", "py.warnings")
    assert "two\nlines" in warned["message"]
    assert last["message"] == "the end"
    assert ended.stdout == ""
