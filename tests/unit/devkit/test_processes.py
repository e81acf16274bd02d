"""Starting, recognising and stopping processes."""

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
# Starts a child in a session of its own and ends.
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


def test_a_command_name_with_blanks_and_brackets_does_not_confuse_the_stat_line() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    assert parse_stat(f"42 (odd ) name) S {fields}") == ("S", 22)


def test_a_started_process_is_recorded_and_alive(table: ProcessTable) -> None:
    started = table.start("sleeper", SLEEP)
    assert is_alive(started)
    assert table.get("sleeper") == started


def test_a_pid_that_belongs_to_somebody_else_by_now_is_not_ours() -> None:
    started = start_time(os.getpid())
    assert started is not None
    mine = Process("me", os.getpid(), started, boot_id())
    assert is_alive(mine)
    assert not is_alive(replace(mine, started=started - 1))
    assert not is_alive(replace(mine, boot_id="an earlier boot"))


def test_stopping_a_stale_record_kills_nobody(table: ProcessTable) -> None:
    started = start_time(os.getpid())
    assert started is not None
    table.stop(Process("stale", os.getpid(), started - 1, boot_id()))
    assert start_time(os.getpid()) == started


def test_a_stopped_process_is_gone_and_forgotten(table: ProcessTable) -> None:
    started = table.start("sleeper", SLEEP)
    table.stop(started)
    assert not is_alive(started)
    assert table.all() == []


def test_a_process_that_ignores_the_request_is_killed(table: ProcessTable) -> None:
    started = table.start("stubborn", STUBBORN)
    table.wait("its first word", lambda: said(table, "stubborn", "up"), 20, started)
    table.stop(started, grace=0.1)
    assert not is_alive(started)


def test_a_process_killed_by_somebody_else_counts_as_ended(table: ProcessTable) -> None:
    started = table.start("sleeper", SLEEP)
    os.kill(started.pid, signal.SIGKILL)
    table.wait("its end", lambda: not is_alive(started), 20)


def test_a_child_that_outlives_its_parent_is_still_found_and_can_be_killed(table: ProcessTable) -> None:
    parent = table.start("parent", ORPHANING)
    table.wait("the parent's end", lambda: not is_alive(parent), 20)
    (orphan,) = table.descendants()
    assert orphan != parent.pid
    kill_all(table.descendants, "the orphan")
    assert start_time(orphan) is None


def test_processes_of_another_table_are_not_ours(table: ProcessTable, tmp_path: Path) -> None:
    table.start("sleeper", SLEEP)
    assert ProcessTable(tmp_path / "other", tmp_path / "logs").descendants() == set()


def test_killing_has_a_bound_and_names_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devkit.processes._KILL_BOUND", 0.1)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    with pytest.raises(DevkitError, match="it does not end: processes 7, 9"):
        kill_all(lambda: {9, 7}, "it")


def test_two_processes_of_one_name_are_refused(table: ProcessTable) -> None:
    table.start("sleeper", SLEEP)
    with pytest.raises(DevkitError, match="runs already"):
        table.start("sleeper", SLEEP)


def test_waiting_for_a_process_that_ends_reports_its_last_words(table: ProcessTable) -> None:
    started = table.start("broken", [sys.executable, "-c", "import time; print('no such file'); time.sleep(0.3)"])
    with pytest.raises(DevkitError, match=r"broken ended before an answer:\n.*no such file"):
        table.wait("an answer", lambda: False, 20, started)


def test_waiting_has_a_bound(table: ProcessTable) -> None:
    with pytest.raises(DevkitError, match="no answer after 0 s"):
        table.wait("answer", lambda: False, 0.1)
