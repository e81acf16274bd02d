"""The log lines that all processes share."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from process import logs

SECRET = "sk-very-secret-value"
pytestmark = pytest.mark.usefixtures("restored_logging")

Line = Callable[..., dict[str, Any]]


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Line:
    """Log one message and return the only line that appears on standard error."""

    def log(message: str = "call joined", **options: Any) -> dict[str, Any]:
        logging.getLogger("process.test").info(message, **options)
        captured = capsys.readouterr()
        assert captured.out == ""
        (text,) = captured.err.splitlines()
        parsed: dict[str, Any] = json.loads(text)
        return parsed

    return log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_line_is_one_object_with_extra_fields(line: Line) -> None:
    logs.configure()
    found = line("call %s", extra={"call_id": "c1", "causes": ["First"]})
    assert list(found) == ["time", "level", "logger", "message", "call_id", "causes"]
    assert found | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "process.test",
        "message": "call %s",
        "call_id": "c1",
        "causes": ["First"],
    }


def test_time_is_utc_in_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    record = logging.makeLogRecord({"msg": "late", "levelno": logging.INFO, "created": 1767225600.25})
    logging.getLogger().handle(record)
    assert json.loads(capsys.readouterr().err)["time"] == "2026-01-01T00:00:00.250+00:00"


def test_arabic_stays_readable(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("process.test").info("call joined", extra={"agent_name": "وكيل"})
    assert '"agent_name": "وكيل"' in capsys.readouterr().err


def test_fields_that_are_not_json_are_text(line: Line) -> None:
    logs.configure()
    assert line(extra={"error": ValueError("no")})["error"] == "no"


def test_line_breaks_stay_within_the_line(line: Line) -> None:
    logs.configure()
    assert line("two\nlines")["message"] == "two\nlines"


def test_exception_is_a_field(line: Line) -> None:
    logs.configure()
    try:
        raise ValueError("no")
    except ValueError:
        found = line("call failed", exc_info=True)
    assert found["message"] == "call failed"
    assert found["exception"].startswith("Traceback") and found["exception"].endswith("ValueError: no")


def test_traceback_of_another_process_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    record = logging.makeLogRecord({"msg": "call failed", "levelno": logging.ERROR, "exc_text": "Traceback: no"})
    logging.getLogger().handle(record)
    assert json.loads(capsys.readouterr().err)["exception"] == "Traceback: no"


@pytest.mark.parametrize("place", ["message", "field", "nested", "exception"])
@pytest.mark.parametrize("secret", [SECRET, 'a"b\\c-secret'], ids=["plain", "with quotes"])
def test_secrets_are_redacted_everywhere(line: Line, place: str, secret: str) -> None:
    logs.configure(secrets=["", "short", secret])
    if place == "message":
        found = line(f"a short key {secret}!")
        assert found["message"] == "a short key [redacted]!"
    elif place == "exception":
        try:
            raise ValueError(f"key {secret}!")
        except ValueError:
            found = line(exc_info=True)
        assert found["exception"].endswith("ValueError: key [redacted]!")
    else:
        value: object = {"deep": [f"key {secret}!"]} if place == "nested" else f"key {secret}!"
        found = line(extra={"field": value})
        assert found["field"] == ({"deep": ["key [redacted]!"]} if place == "nested" else "key [redacted]!")


def test_fields_are_left_out_by_name(line: Line) -> None:
    logs.configure(omits=lambda name: name.startswith("private."))
    found = line(extra={"private.name": "Salma", "room": "r1"})
    assert "private.name" not in found
    assert found["room"] == "r1"


def test_filters_drop_and_change_records(line: Line) -> None:
    def shout(record: logging.LogRecord) -> bool:
        record.msg = record.msg.upper()
        return record.msg != "QUIET"

    logs.configure(filters=[shout])
    logging.getLogger("process.test").info("quiet")
    assert line("loud")["message"] == "LOUD"


def test_levels_are_per_logger(line: Line) -> None:
    logs.configure(levels={"noisy": logging.WARNING})
    logging.getLogger("noisy.part").info("noise")
    logging.getLogger("process.test").debug("detail")
    assert line()["level"] == "info"


def test_terminal_gets_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logs.configure(omits=lambda name: name == "private", secrets=['a"b\\c-secret'])
    logger = logging.getLogger("process.test")
    logger.info("call joined", extra={"call_id": "c1", "private": "Salma", "key": 'a"b\\c-secret'})
    logger.warning("no fields")
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("call failed")
    first, second, third, *trace = terminal.getvalue().splitlines()
    assert first.endswith("info     process.test  call joined  call_id=c1 key=[redacted]")
    assert second.endswith("warning  process.test  no fields")
    assert third.endswith("error    process.test  call failed")
    assert (trace[0], trace[-1]) == ("Traceback (most recent call last):", "ValueError: no")


WARNINGS = """
import logging, warnings
import jwt
from process import logs

logs.configure()
jwt.encode({"iss": "key"}, "short", algorithm="HS256")
jwt.decode(jwt.encode({}, "short"), "short", algorithms=["HS256"])
warnings.warn("two\\nlines")
logging.getLogger("process.test").info("the end")
"""


def test_warnings_are_lines_except_those_that_reveal_key_length() -> None:
    ended = subprocess.run([sys.executable, "-c", WARNINGS], capture_output=True, text=True, check=True, timeout=60)
    warned, last = (json.loads(text) for text in ended.stderr.splitlines())
    assert (warned["level"], warned["logger"]) == ("warning", "py.warnings")
    assert "two\nlines" in warned["message"]
    assert last["message"] == "the end"
    assert ended.stdout == ""
