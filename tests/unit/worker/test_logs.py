"""What a log line holds, and what it never holds."""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping

import pytest

from worker.server.logs import JsonFormatter

SECRET = "sk-very-secret-value"


def _line(fields: Mapping[str, object], message: str = "room accepted") -> dict[str, object]:
    record = logging.makeLogRecord({"msg": message, "name": "worker.server.worker", "levelname": "INFO", **fields})
    line: dict[str, object] = json.loads(JsonFormatter([SECRET, ""]).format(record))
    return line


def test_facts_are_fields() -> None:
    line = _line({"room": "ornina-1", "slots": 4})
    assert line | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "worker.server.worker",
        "message": "room accepted",
        "room": "ornina-1",
        "slots": 4,
    }


def test_arabic_stays_readable() -> None:
    record = logging.makeLogRecord({"msg": "x", "room": "غرفة"})
    assert "غرفة" in JsonFormatter().format(record)


@pytest.mark.parametrize("field", ["message", "error", "nested"])
def test_secrets_are_redacted_wherever_they_are(field: str) -> None:
    value: object = {"deep": [f"key {SECRET}!"]} if field == "nested" else f"key {SECRET}!"
    line = _line({}, str(value)) if field == "message" else _line({field: value})
    assert SECRET not in json.dumps(line)
    assert "[redacted]" in json.dumps(line)


def test_secrets_in_tracebacks_are_redacted() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        line = _line({"exc_info": sys.exc_info()})
    assert "ValueError" in str(line["exception"])
    assert SECRET not in json.dumps(line)


@pytest.mark.parametrize("field", ["lk.pii.user_input", "lk.pii.participant_identity", "transcript", "text", "body"])
def test_what_was_said_is_left_out(field: str) -> None:
    assert "hello" not in json.dumps(_line({field: "hello"}))


def test_what_the_sdk_quotes_when_speech_fails_is_left_out() -> None:
    line = _line(
        {}, "failed to synthesize speech: no audio frames were pushed for text: my name is Salma, retrying in 1s"
    )
    assert "Salma" not in json.dumps(line)


def test_a_call_processs_traceback_is_shown_once() -> None:
    line = _line({"exc_text": "Traceback: no"}, "task failed\nTraceback: no")
    assert (line["message"], line["exception"]) == ("task failed", "Traceback: no")


def test_a_secret_with_quotes_is_redacted() -> None:
    secret = 'a"b\\c-secret'
    text = JsonFormatter([secret]).format(logging.makeLogRecord({"msg": f"key {secret}"}))
    assert json.loads(text)["message"] == "key [redacted]"


def test_fields_that_are_not_json_are_shown_as_text() -> None:
    assert _line({"error": ValueError("no")})["error"] == "no"


def test_the_log_goes_to_standard_error() -> None:
    script = (
        "import logging; from worker.server import logs; logs.set_up([]); "
        "logging.getLogger('worker').info('room accepted')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    assert json.loads(done.stderr)["message"] == "room accepted"
