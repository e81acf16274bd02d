"""The log of a worker is readable, and its environment complete."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from avatar_agent.local import worker
from avatar_agent.local.cli import main
from tests.unit.local.test_inputs import LIVEKIT, OPENAI, made, written


def line(**fields: object) -> bytes:
    record = {"time": "2026-01-01T00:00:00Z", "level": "info", "logger": "worker", "message": "job declined"}
    return json.dumps({**record, **fields}).encode() + b"\n"


def test_log_line_shows_message_and_fields() -> None:
    assert worker.readable(line(room="calls-1", agent="default/florist")) == "job declined room=calls-1"


def test_level_and_traceback_of_an_error_are_shown() -> None:
    assert worker.readable(line(level="error", exception="Traceback\nKeyError")) == (
        "error: job declined\nTraceback\nKeyError"
    )


@pytest.mark.parametrize("text", ["printed by own code", "[1, 2]", '{"level": 1}', "7"])
def test_other_lines_stay_as_they_are(text: str) -> None:
    assert worker.readable(text.encode() + b"\n") == text


def test_environment_names_configuration_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-shell")
    inputs = made(written(tmp_path, {}, LIVEKIT, OPENAI))
    config = worker.write_config(inputs, tmp_path)
    environment = worker.environment(inputs, config, [tmp_path])
    assert environment["AVATAR_AGENT_CONFIG"] == str(config)
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(worker.ROOT), str(tmp_path)]
    assert environment["OPENAI_API_KEY"] == "sk-1", "the inputs decide, and they have read the shell"
    assert "PROMETHEUS_MULTIPROC_DIR" not in environment
    assert config.stat().st_mode & 0o077 == 0, "no other user can read it"


@pytest.mark.usefixtures("restored_logging")
def test_check_of_a_wrong_manifest_fails_with_every_fault(tmp_path: Path) -> None:
    path = written(tmp_path, {"language": "English", "agentName": "front desk"}, LIVEKIT, OPENAI)
    result = CliRunner().invoke(main, ["check", "--json", str(path)])
    assert result.exit_code == 1
    assert [(verdict["check"], verdict["outcome"]) for verdict in json.loads(result.stdout)] == [
        ("manifest", "failed")
    ] * 2


@pytest.mark.usefixtures("restored_logging")
def test_dev_of_a_wrong_manifest_ends_with_its_faults(tmp_path: Path) -> None:
    path = written(tmp_path, {"scaling": {"minWorkers": 5, "maxWorkers": 2}}, LIVEKIT, OPENAI)
    result = CliRunner().invoke(main, ["dev", "--no-browser", str(path)])
    assert result.exit_code == 1
    assert "spec.scaling: minWorkers must not exceed maxWorkers: lower minWorkers or raise maxWorkers" in result.stderr


@pytest.mark.usefixtures("restored_logging")
def test_dev_without_any_livekit_server_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, ["dev", "--no-browser", str(written(tmp_path, {}, OPENAI))])
    assert result.exit_code == 1
    assert "install livekit-server" in result.stderr
