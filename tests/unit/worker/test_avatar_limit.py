"""The limit of avatars reaches call processes: from the controller's request, through the main process."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker import avatar_limit, reports


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(reports.SOCKET_VARIABLE, str(tmp_path / "reports.sock"))
    return tmp_path


@pytest.mark.parametrize("limit", [1, 1000, None])
def test_limit_is_read_as_it_was_published(folder: Path, limit: int | None) -> None:
    avatar_limit.publish(7)
    avatar_limit.publish(limit)
    assert avatar_limit.read() == limit


def test_other_process_reads_the_limit(folder: Path) -> None:
    avatar_limit.publish(3)
    code = "from worker import avatar_limit; print(avatar_limit.read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "3"


def test_unknown_limit_is_none(folder: Path) -> None:
    assert avatar_limit.read() is None
    assert avatar_limit.jobs_with_avatar() == []


def test_jobs_with_an_avatar_are_read_in_their_order(folder: Path) -> None:
    avatar_limit.publish(1)
    avatar_limit.publish_jobs(["AJ_2", "AJ_1"])
    assert avatar_limit.jobs_with_avatar() == ["AJ_2", "AJ_1"]
    avatar_limit.publish_jobs([])
    assert (avatar_limit.jobs_with_avatar(), avatar_limit.read()) == ([], 1)


def test_worker_without_call_processes_publishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(reports.SOCKET_VARIABLE, raising=False)
    avatar_limit.publish(3)
    avatar_limit.publish_jobs(["AJ_1"])
    assert (avatar_limit.read(), avatar_limit.jobs_with_avatar()) == (None, [])
