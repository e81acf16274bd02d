"""Series of call processes: read from their files, folded when the process is gone."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from worker.server.metrics import CallProcesses, fold_dead, prepare_directory

_NO_PROCESS = 4194305
"""Linux gives no process an id above 4194304."""

_CALL = """
from worker.call import metrics
metrics.STARTED.inc()
metrics.ENDED.labels("caller_left").inc()
metrics.ANSWER_SECONDS.observe(0.15)
"""


def _hold_a_call(directory: Path) -> None:
    """What a call process leaves behind."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    subprocess.run([sys.executable, "-c", _CALL], env=environment, check=True, timeout=60)


def _exposition(directory: Path) -> str:
    registry = CollectorRegistry()
    registry.register(CallProcesses(directory))
    return generate_latest(registry).decode()


def test_calls_of_dead_processes_count_and_their_files_are_folded(tmp_path: Path) -> None:
    for _ in range(3):
        _hold_a_call(tmp_path)
    for _ in range(2):  # a second scrape finds the same
        text = _exposition(tmp_path)
        assert "avatar_agent_worker_calls_started_total 3.0" in text
        assert 'avatar_agent_worker_calls_ended_total{outcome="caller_left"} 3.0' in text
        assert 'avatar_agent_worker_answer_seconds_bucket{le="0.2"} 3.0' in text
        assert 'avatar_agent_worker_answer_seconds_bucket{le="0.1"} 0.0' in text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_folded.db", "histogram_folded.db"]


def test_files_of_living_processes_stay(tmp_path: Path) -> None:
    _hold_a_call(tmp_path)
    for file in tmp_path.glob("*.db"):
        file.rename(tmp_path / f"{file.stem.partition('_')[0]}_{os.getpid()}.db")
    assert "calls_started_total 1.0" in _exposition(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{kind}_{os.getpid()}.db" for kind in ("counter", "histogram")
    }


def test_gauges_of_the_dead_go(tmp_path: Path) -> None:
    (tmp_path / f"gauge_livesum_{_NO_PROCESS}.db").write_bytes(b"\0" * 8)
    fold_dead(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_runs_files_are_removed(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    prepare_directory(directory)
    (directory / "counter_1.db").write_bytes(b"x")
    prepare_directory(directory)
    assert list(directory.iterdir()) == []
