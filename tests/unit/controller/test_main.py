"""How the process ends."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller import __main__ as process
from controller.runtime import logs
from controller.runtime.settings import Settings


@pytest.mark.parametrize(("stopped", "code"), [(True, 0), (False, 1)], ids=["by a signal", "the Lease was lost"])
def test_its_code_tells_whether_it_was_asked_to_end(monkeypatch: pytest.MonkeyPatch, stopped: bool, code: int) -> None:
    async def run(_: Settings) -> bool:
        return stopped

    assert ended(monkeypatch, run) == code


def test_a_failure_is_logged_and_is_none_of_the_good_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(_: Settings) -> bool:
        raise RuntimeError("kopf ended by itself")

    assert ended(monkeypatch, run) == 1
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("ERROR", "controller failed")
    assert "kopf ended by itself" in caplog.text


def ended(monkeypatch: pytest.MonkeyPatch, run: Callable[[Settings], Coroutine[Any, Any, bool]]) -> int:
    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(logs, "configure", lambda: None)  # it would take the log away from pytest
    monkeypatch.setenv("WORKER_IMAGE", "worker:1")
    monkeypatch.setenv("LEASE_NAMESPACE", "system")
    return process.main()
