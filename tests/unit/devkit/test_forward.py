"""A command is restarted whenever it ends."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.paths import REPOSITORY
from devkit.processes import Process, ProcessTable, start_time

RUN = (
    "import os, pathlib, sys, time; pathlib.Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(float(sys.argv[2]))"
)
"""Creates a file named by its pid in a folder, and ends after some seconds."""


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    processes = ProcessTable(tmp_path / "records", tmp_path / "logs")
    yield processes
    for process in processes.all():
        processes.stop(process, grace=0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def keep(table: ProcessTable, runs: Path, seconds: float) -> Process:
    argv = [sys.executable, "-m", "devkit.demo.forward", sys.executable, "-c", RUN, str(runs), str(seconds)]
    return table.start("kept", argv, env={"PYTHONPATH": str(REPOSITORY)})


def test_ended_command_is_restarted(table: ProcessTable, runs: Path) -> None:
    process = keep(table, runs, 0)
    table.wait("a third run", lambda: len(list(runs.iterdir())) >= 3, 20, process)


def test_command_stops_with_the_forwarder(table: ProcessTable, runs: Path) -> None:
    process = keep(table, runs, 600)
    table.wait("a run", lambda: any(runs.iterdir()), 20, process)
    table.stop(process)
    assert [start_time(int(run.name)) for run in runs.iterdir()] == [None]
