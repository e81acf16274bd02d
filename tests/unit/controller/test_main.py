"""The exit status of the controller process."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller import __main__ as process
from controller.runtime import logs
from controller.runtime.settings import ControllerSettings


@pytest.mark.parametrize(("stopped", "code"), [(True, 0), (False, 1)], ids=["signal", "Lease lost"])
def test_exit_status_tells_signal_from_lost_lease(monkeypatch: pytest.MonkeyPatch, stopped: bool, code: int) -> None:
    async def run(_: ControllerSettings) -> bool:
        return stopped

    assert ended(monkeypatch, run) == code


def test_failure_is_logged_and_exits_with_1(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def run(_: ControllerSettings) -> bool:
        raise RuntimeError("kopf ended by itself")

    assert ended(monkeypatch, run) == 1
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("ERROR", "controller failed")
    assert "kopf ended by itself" in caplog.text


def ended(monkeypatch: pytest.MonkeyPatch, run: Callable[[ControllerSettings], Coroutine[Any, Any, bool]]) -> int:
    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(logs, "configure", lambda: None)  # pytest's caplog needs its own handler
    monkeypatch.setenv("WORKER_IMAGE", "worker:1")
    monkeypatch.setenv("LEASE_NAMESPACE", "system")
    return process.main()


@pytest.mark.usefixtures("restored_logging")
def test_invalid_settings_exit_with_2_and_one_log_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WORKER_IMAGE", raising=False)
    assert process.main() == 2
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["message"]) == ("critical", "invalid settings")
    assert line["error"] == "WORKER_IMAGE is not set: set it to the worker image of this release"
