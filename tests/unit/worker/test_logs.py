"""What a line of the worker's log holds, and what it never holds."""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from worker.server import logs

SECRET = "sk-very-secret-value"
pytestmark = pytest.mark.usefixtures("restored_logging")

Line = Callable[..., dict[str, Any]]


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Line:
    """Log one record as a worker does and return its line."""

    def log(message: str = "room accepted", **attributes: object) -> dict[str, Any]:
        logs.configure([SECRET, ""])
        record = {"msg": message, "name": "worker.server.worker", "levelname": "INFO", "levelno": logging.INFO}
        logging.getLogger().handle(logging.makeLogRecord(record | attributes))
        (text,) = capsys.readouterr().err.splitlines()
        parsed: dict[str, Any] = json.loads(text)
        return parsed

    return log


def test_extra_values_are_fields(line: Line) -> None:
    assert line(room="غرفة", slots=4) | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "worker.server.worker",
        "message": "room accepted",
        "room": "غرفة",
        "slots": 4,
    }


@pytest.mark.parametrize("field", ["message", "error", "nested"])
def test_secrets_are_redacted_everywhere(line: Line, field: str) -> None:
    value: object = {"deep": [f"key {SECRET}!"]} if field == "nested" else f"key {SECRET}!"
    found = line(str(value)) if field == "message" else line(**{field: value})
    assert SECRET not in json.dumps(found)
    assert "[redacted]" in json.dumps(found)


def test_secrets_in_tracebacks_are_redacted(line: Line) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        found = line(exc_info=sys.exc_info())
    assert "ValueError" in found["exception"]
    assert SECRET not in json.dumps(found)


@pytest.mark.parametrize("field", ["lk.pii.user_input", "lk.pii.participant_identity", "transcript", "text", "body"])
def test_spoken_and_personal_fields_are_left_out(line: Line, field: str) -> None:
    assert "hello" not in json.dumps(line(**{field: "hello"}))


def test_text_quoted_by_the_sdk_is_redacted(line: Line) -> None:
    message = "failed to synthesize speech: no audio frames were pushed for text: my name is Salma, retrying in 1s"
    found = line(message, exc_text=f"Traceback\nError: {message}")
    assert "Salma" not in json.dumps(found)
    assert found["message"].endswith("for text: [redacted]")
    assert found["exception"].endswith("for text: [redacted]")


def test_traceback_of_a_call_process_is_shown_once(line: Line) -> None:
    found = line("task failed\nTraceback: no", exc_text="Traceback: no")
    assert (found["message"], found["exception"]) == ("task failed", "Traceback: no")


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        ("livekit", "data channel closed unexpectedly"),
        ("livekit", "livekit_rpc::client - Failed to publish RPC request: RPC Error: Failed to send (1505)"),
        ("livekit.agents", "failed to perform clear buffer rpc"),
        (
            "livekit.agents",
            "OpenAI Realtime API returned an error: RealtimeError(message='Item with item_id not found: item_6287.', "
            "type='invalid_request_error', code='item_not_found', event_id=None, param=None)",
        ),
        ("asyncio", "Task exception was never retrieved\nfuture: <Task exception=StreamError('stream closed')>"),
        ("livekit", "livekit_rpc::client:312:livekit_rpc::client - Ack received for unexpected RPC request: 97c4f736"),
        ("livekit", "livekit_rpc::client:333:livekit_rpc::client - Response received for unexpected RPC request: 97c4"),
        ("livekit", 'failed to handle request FfiRequest { ByteStreamClose { } }: InvalidRequest("handle not found")'),
        ("livekit", 'failed to handle request FfiRequest { ByteStreamWrite { } }: InvalidRequest("handle not found")'),
        (
            "livekit",
            "livekit::rtc_engine::rtc_session - failed to send dc_event buffer_amount_change: SendError { .. }",
        ),
        (
            "asyncio",
            "Task exception was never retrieved\nfuture: <Task finished name='Task-1' coro=<BaseStreamWriter.aclose() "
            "done, defined at data_stream.py:456> exception=AssertionError()>",
        ),
    ],
)
def test_harmless_errors_of_the_sdk_are_dropped(logger: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure([])
    logging.getLogger(logger).error(message)
    logging.getLogger("livekit").error("engine failed")
    (text,) = capsys.readouterr().err.splitlines()
    assert json.loads(text)["message"] == "engine failed"


def test_sdk_noise_is_below_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure([])
    logging.getLogger("livekit").warning("native library shuts down")
    logging.getLogger("httpx").info("request")
    logging.getLogger("livekit.agents").info("registered worker")
    (text,) = capsys.readouterr().err.splitlines()
    assert json.loads(text)["message"] == "registered worker"
