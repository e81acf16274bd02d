"""Series of call processes: read from their files, merged after the process has ended."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from worker.server.metrics import CallProcesses, merge_ended, prepare_directory

_NO_PROCESS = 4194305
"""Linux gives no process an id above 4194304."""

_CALL = """
from worker.call import metrics
metrics.STARTED.inc()
metrics.ENDED.labels("caller_left").inc()
metrics.ANSWER_SECONDS.observe(0.15)
"""


def _hold_a_call(directory: Path) -> None:
    """Leave the files of a call process that has ended."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    subprocess.run([sys.executable, "-c", _CALL], env=environment, check=True, timeout=60)


def _exposition(directory: Path) -> str:
    registry = CollectorRegistry()
    registry.register(CallProcesses(directory))
    return generate_latest(registry).decode()


def test_files_of_ended_processes_are_merged_and_count(tmp_path: Path) -> None:
    for _ in range(3):
        _hold_a_call(tmp_path)
    for _ in range(2):  # a second scrape returns the same
        text = _exposition(tmp_path)
        assert "avatar_agent_worker_calls_started_total 3.0" in text
        assert 'avatar_agent_worker_calls_ended_total{outcome="caller_left"} 3.0' in text
        assert 'avatar_agent_worker_answer_seconds_bucket{le="0.2"} 3.0' in text
        assert 'avatar_agent_worker_answer_seconds_bucket{le="0.1"} 0.0' in text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_merged.db", "histogram_merged.db"]


def test_files_of_running_processes_stay(tmp_path: Path) -> None:
    _hold_a_call(tmp_path)
    for file in tmp_path.glob("*.db"):
        file.rename(tmp_path / f"{file.stem.partition('_')[0]}_{os.getpid()}.db")
    assert "calls_started_total 1.0" in _exposition(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{kind}_{os.getpid()}.db" for kind in ("counter", "histogram")
    }


def test_gauges_of_ended_processes_are_deleted(tmp_path: Path) -> None:
    (tmp_path / f"gauge_livesum_{_NO_PROCESS}.db").write_bytes(b"\0" * 8)
    merge_ended(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_earlier_run_are_deleted(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    prepare_directory(directory)
    (directory / "counter_1.db").write_bytes(b"x")
    prepare_directory(directory)
    assert list(directory.iterdir()) == []
