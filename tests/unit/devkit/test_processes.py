"""Processes are started, identified and stopped."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from devkit.errors import DevkitError
from devkit.processes import Process, ProcessTable, boot_id, is_alive, kill_all, parse_stat, start_time

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]
# Starts a child in its own session and exits.
ORPHANING = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)",
    *SLEEP,
]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    processes = ProcessTable(tmp_path / "records", tmp_path / "logs")
    yield processes
    for process in processes.all():
        processes.stop(process, grace=0)


def said(table: ProcessTable, name: str, text: str) -> bool:
    return text in table.tail(name)


def test_stat_line_with_blanks_and_brackets_is_parsed() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    assert parse_stat(f"42 (odd ) name) S {fields}") == ("S", 22)


def test_started_process_is_recorded_and_alive(table: ProcessTable) -> None:
    started = table.start("sleeper", SLEEP)
    assert is_alive(started)
    assert table.get("sleeper") == started


def test_reused_pid_is_another_process() -> None:
    started = start_time(os.getpid())
    assert started is not None
    mine = Process("me", os.getpid(), started, boot_id())
    assert is_alive(mine)
    assert not is_alive(replace(mine, started=started - 1))
    assert not is_alive(replace(mine, boot_id="an earlier boot"))


def test_stopping_stale_record_kills_no_process(table: ProcessTable) -> None:
    started = start_time(os.getpid())
    assert started is not None
    table.stop(Process("stale", os.getpid(), started - 1, boot_id()))
    assert start_time(os.getpid()) == started


def test_stopped_process_has_no_record(table: ProcessTable) -> None:
    started = table.start("sleeper", SLEEP)
    table.stop(started)
    assert not is_alive(started)
    assert table.all() == []


def test_process_that_ignores_sigterm_is_killed(table: ProcessTable) -> None:
    started = table.start("stubborn", STUBBORN)
    table.wait("its first word", lambda: said(table, "stubborn", "up"), 20, started)
    table.stop(started, grace=0.1)
    assert not is_alive(started)


def test_process_killed_from_outside_counts_as_ended(table: ProcessTable) -> None:
    started = table.start("sleeper", SLEEP)
    os.kill(started.pid, signal.SIGKILL)
    table.wait("its end", lambda: not is_alive(started), 20)


def test_child_that_outlives_its_parent_is_found_and_killed(table: ProcessTable) -> None:
    parent = table.start("parent", ORPHANING)
    table.wait("the parent's end", lambda: not is_alive(parent), 20)
    (orphan,) = table.descendants()
    assert orphan != parent.pid
    kill_all(table.descendants, "the orphan")
    assert start_time(orphan) is None


def test_processes_of_another_table_are_ignored(table: ProcessTable, tmp_path: Path) -> None:
    table.start("sleeper", SLEEP)
    assert ProcessTable(tmp_path / "other", tmp_path / "logs").descendants() == set()


def test_kill_timeout_names_remaining_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devkit.processes._KILL_SECONDS", 0.1)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    with pytest.raises(DevkitError, match="processes of the it do not end: 7, 9"):
        kill_all(lambda: {9, 7}, "it")


def test_second_process_of_one_name_is_rejected(table: ProcessTable) -> None:
    table.start("sleeper", SLEEP)
    with pytest.raises(DevkitError, match="already runs"):
        table.start("sleeper", SLEEP)


def test_wait_reports_log_of_process_that_ended(table: ProcessTable) -> None:
    started = table.start("broken", [sys.executable, "-c", "import time; print('no such file'); time.sleep(0.3)"])
    with pytest.raises(DevkitError, match=r"broken exited before there was an answer:\n.*no such file"):
        table.wait("an answer", lambda: False, 20, started)


def test_wait_times_out(table: ProcessTable) -> None:
    with pytest.raises(DevkitError, match="no answer after 0 s"):
        table.wait("answer", lambda: False, 0.1)
