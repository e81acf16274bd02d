"""Series of call processes: read from their files, merged after the process has ended."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from livekit.agents.metrics import LLMMetrics, STTMetrics, TTSMetrics
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agentspec.wire import CallOutcome
from tests.unit.worker.builders import make_config
from worker.call import metrics, voice
from worker.server.metrics import CallProcesses, merge_ended, prepare_directory

VOICE = make_config().voice
_NO_PROCESS = 4194305
"""Linux gives no process an id above 4194304."""

_CALL = """
from worker.call import metrics
metrics.STARTED.inc()
metrics.ENDED.labels("caller_left").inc()
metrics.GREETING_DURATION.observe(0.15)
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
        assert 'avatar_agent_worker_greeting_duration_seconds_bucket{le="0.2"} 3.0' in text
        assert 'avatar_agent_worker_greeting_duration_seconds_bucket{le="0.1"} 0.0' in text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_merged.db", "histogram_merged.db"]


def test_series_of_call_processes_start_at_zero(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import worker.call.metrics"], env=environment, check=True, timeout=60)
    text = _exposition(tmp_path)
    for series in (
        "calls_started_total",
        *(f'calls_ended_total{{outcome="{outcome}"}}' for outcome in CallOutcome),
        *(f'avatars_ended_total{{outcome="{outcome}"}}' for outcome in metrics.AvatarOutcome),
        *(f'turn_stage_duration_seconds_count{{stage="{stage}"}}' for stage in metrics.Stage),
        *(
            f'provider_errors_total{{retried="{retried}",stage="{stage}"}}'
            for stage in ("stt", "llm", "tts")
            for retried in ("true", "false")
        ),
        *(f'provider_usage_total{{kind="{kind}"}}' for kind in metrics.Usage),
        "answer_duration_seconds_count",
        "avatars_started_total",
    ):
        assert f"avatar_agent_worker_{series} 0.0" in text


_FORK = """
import os
from worker.call import metrics
child = os.fork()
if not child:
    metrics.open_files()
    os._exit(0)
os.waitpid(child, 0)
print(child)
"""


def test_process_has_its_files_before_its_call(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", _FORK], env=environment, check=True, timeout=60, capture_output=True)
    child = int(done.stdout)
    assert {f"counter_{child}.db", f"histogram_{child}.db"} <= {file.name for file in tmp_path.iterdir()}
    assert "avatar_agent_worker_calls_started_total 0.0" in _exposition(tmp_path)


def test_files_can_be_exposed_as_openmetrics(tmp_path: Path) -> None:
    _hold_a_call(tmp_path)
    registry = CollectorRegistry()
    registry.register(CallProcesses(tmp_path))
    text = openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    families = {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    (started,) = families["avatar_agent_worker_calls_started"].samples
    assert started.value == 1


def read(counter: Counter | Histogram, **labels: str) -> float:
    """The value of a counter, or the sum of a histogram."""
    child = counter.labels(**labels) if labels else counter
    return float(child._value.get() if isinstance(child, Counter) else child._sum.get())


def test_stages_of_a_turn_add_up() -> None:
    stages = {stage: read(metrics.STAGE_DURATION, stage=stage) for stage in metrics.Stage}
    turns = read(metrics.TURN_DURATION)
    metrics.record_caller_turn({"transcription_delay": 0.3, "end_of_turn_delay": 0.5})
    metrics.record_reply({"e2e_latency": 1.2, "llm_node_ttft": 0.4, "tts_node_ttfb": 0.25})
    metrics.record_reply({"tts_node_ttfb": 9.0})  # a greeting answers no turn
    observed = {stage: read(metrics.STAGE_DURATION, stage=stage) - before for stage, before in stages.items()}
    assert observed == pytest.approx({"stt": 0.3, "end_of_turn": 0.2, "llm": 0.4, "tts": 0.25})
    assert read(metrics.TURN_DURATION) - turns == pytest.approx(1.2)


def test_turn_without_a_transcript_has_no_stt_stage() -> None:
    before = read(metrics.STAGE_DURATION, stage="stt")
    decided = read(metrics.STAGE_DURATION, stage="end_of_turn")
    metrics.record_caller_turn({"end_of_turn_delay": 0.5})
    metrics.record_caller_turn({})
    assert read(metrics.STAGE_DURATION, stage="stt") == before
    assert read(metrics.STAGE_DURATION, stage="end_of_turn") - decided == pytest.approx(0.5)


async def test_usage_of_each_stage_is_recorded() -> None:
    session = voice.make_session(voice.Stages(VOICE, voice.make_client(VOICE, "key")), "en")
    metrics.follow_usage(session)
    before = {kind: read(metrics.USAGE, kind=kind) for kind in metrics.Usage}
    known: dict[str, Any] = {"label": "", "request_id": "", "timestamp": 0.0, "duration": 1.0}
    llm = LLMMetrics(
        **known,
        ttft=0.1,
        cancelled=False,
        prompt_tokens=120,
        completion_tokens=30,
        prompt_cached_tokens=0,
        total_tokens=150,
        tokens_per_second=30,
    )
    tts = TTSMetrics(**known, ttfb=0.1, audio_duration=2.0, cancelled=False, characters_count=42, streamed=False)
    stt = STTMetrics(**known, audio_duration=1.5, streamed=False)
    for stage, measured in ((session.llm, llm), (session.tts, tts), (session.stt, stt)):
        cast(Any, stage).emit("metrics_collected", measured)
    used = {kind: read(metrics.USAGE, kind=kind) - value for kind, value in before.items()}
    assert used == {"llm_input_tokens": 120, "llm_output_tokens": 30, "tts_characters": 42, "stt_audio_seconds": 1.5}


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
