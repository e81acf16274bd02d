"""The worker's settings and configuration: what is loaded, and what is rejected in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from process.settings import SettingsError
from tests.receiver import SIGNING_KEY
from tests.unit.worker.builders import TAVUS
from worker.__main__ import main
from worker.config import CONFIG_VARIABLE, PORT_VARIABLE, load_settings, secret_values
from worker.server import metrics, worker

CREDENTIALS = {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "livekit-secret", "OPENAI_API_KEY": "openai-secret"}


def _environment(tmp_path: Path, document: object, **more: str) -> dict[str, str]:
    path = tmp_path / "agent.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return {CONFIG_VARIABLE: str(path), **CREDENTIALS, **more}


def test_settings_are_loaded(tmp_path: Path, document: dict[str, object]) -> None:
    settings = load_settings(_environment(tmp_path, document))
    assert settings.config.registered_name == "ornina-avatar-agent"
    assert (settings.livekit_key, settings.openai_key, settings.tavus_key) == ("key", "openai-secret", "")
    assert settings.port == 8080


def test_repr_shows_no_secret(tmp_path: Path, document: dict[str, object]) -> None:
    text = repr(load_settings(_environment(tmp_path, document)))
    assert "livekit-secret" not in text and "openai-secret" not in text


@pytest.mark.parametrize("missing", sorted(CREDENTIALS))
@pytest.mark.parametrize("value", [None, "", "  "], ids=["unset", "empty", "blank"])
def test_error_names_missing_credential(
    tmp_path: Path, document: dict[str, object], missing: str, value: str | None
) -> None:
    environment = _environment(tmp_path, document)
    if value is None:
        del environment[missing]
    else:
        environment[missing] = value
    with pytest.raises(SettingsError, match=missing):
        load_settings(environment)


def test_tavus_key_is_required_only_with_tavus(tmp_path: Path, document: dict[str, object]) -> None:
    environment = _environment(tmp_path, document | {"avatar": TAVUS})
    with pytest.raises(SettingsError, match="TAVUS_API_KEY"):
        load_settings(environment)
    assert load_settings(environment | {"TAVUS_API_KEY": "t"}).tavus_key == "t"


TOOLS = [
    {"name": "hang_up", "endCall": {}},
    {
        "name": "shop",
        "mcp": {
            "url": "https://shop.example/mcp",
            "headers": [{"name": "Authorization", "secretKeyRef": {"name": "shop", "key": "token"}}],
        },
    },
]
HEADER_VARIABLE = "AVATAR_AGENT_TOOL_1_HEADER_0"


def test_header_of_a_tool_is_required_and_secret(tmp_path: Path, document: dict[str, object]) -> None:
    environment = _environment(tmp_path, document | {"tools": TOOLS})
    with pytest.raises(SettingsError, match=HEADER_VARIABLE):
        load_settings(environment)
    environment[HEADER_VARIABLE] = "Bearer shop-secret"
    values = set(secret_values(load_settings(environment).config, environment))
    assert {"Bearer shop-secret", "shop-secret", "openai-secret"} <= values


REPORT = {
    "url": "https://crm.example/calls",
    "secretKeyRef": {"name": "crm", "key": "signingKey"},
    "include": ["Usage"],
}


@pytest.mark.parametrize("key", ["", "too-short", "whsec_dG9vLXNob3J0"])
def test_signing_key_of_reports_is_required_and_checked(tmp_path: Path, document: dict[str, object], key: str) -> None:
    environment = _environment(tmp_path, document | {"report": REPORT}) | {"AVATAR_AGENT_REPORT_KEY": key}
    with pytest.raises(SettingsError, match=r"AVATAR_AGENT_REPORT_KEY .* set it to whsec_ and 24 to 64 random bytes"):
        load_settings(environment)


def test_secrets_of_reports_and_traces_are_kept_out_of_logs(tmp_path: Path, document: dict[str, object]) -> None:
    header = {"name": "Authorization", "secretKeyRef": {"name": "traces", "key": "token"}}
    tracing = {"otlpEndpoint": "http://collector:4318", "headers": [header]}
    environment = _environment(tmp_path, document | {"report": REPORT, "tracing": tracing})
    environment["AVATAR_AGENT_REPORT_KEY"] = SIGNING_KEY
    with pytest.raises(SettingsError, match="AVATAR_AGENT_TRACING_HEADER_0 is not set"):
        load_settings(environment)
    environment["AVATAR_AGENT_TRACING_HEADER_0"] = "Bearer trace-token"
    values = set(secret_values(load_settings(environment).config, environment))
    assert {SIGNING_KEY, "Bearer trace-token", "trace-token"} <= values


def test_configuration_of_a_newer_controller_is_read(tmp_path: Path, document: dict[str, object]) -> None:
    known = load_settings(_environment(tmp_path, document)).config
    newer = document | {"surprise": 1, "avatar": {"provider": "Anam", "anam": {"avatarID": "a1"}}}
    assert load_settings(_environment(tmp_path, newer)).config == known


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"roomNamePattern": "^(ornina"}, "roomNamePattern cannot be used: it is not a regular expression"),
        ({"agentName": ""}, "agentName is empty"),
        ({"avatar": {"provider": "Tavus"}}, "avatar.tavus is missing"),
        ({"avatar": {"provider": "Plugin"}}, "avatar.plugin is missing"),
        ({"livekitURL": "http://livekit.test"}, "ws://"),
        ({"callsPerWorker": 0}, "at least 1"),
        ({"language": 7}, "language"),
    ],
)
def test_invalid_document_is_rejected_in_one_line(
    tmp_path: Path, document: dict[str, object], change: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(_environment(tmp_path, document | change))
    assert "\n" not in str(caught.value)


def test_automatic_dispatch_registers_without_name(tmp_path: Path, document: dict[str, object]) -> None:
    settings = load_settings(_environment(tmp_path, document | {"dispatchMode": "Automatic"}))
    assert settings.config.registered_name == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\x00"])
def test_malformed_document_is_rejected(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="not valid"):
        load_settings(_environment(tmp_path, text))


def test_error_names_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(SettingsError, match=f"{path}: No such file"):
        load_settings({**CREDENTIALS, CONFIG_VARIABLE: str(path)})


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1"])
def test_invalid_port_is_rejected(tmp_path: Path, document: dict[str, object], port: str) -> None:
    with pytest.raises(SettingsError, match=PORT_VARIABLE):
        load_settings(_environment(tmp_path, document, **{PORT_VARIABLE: port}))


@pytest.mark.usefixtures("restored_logging")
def test_invalid_settings_exit_with_2_and_one_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.json"
    for name, value in {**CREDENTIALS, CONFIG_VARIABLE: str(path)}.items():
        monkeypatch.setenv(name, value)
    assert main() == 2
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["message"]) == ("critical", "invalid settings")
    assert f"{path}: No such file" in line["error"]
    assert "exception" not in line


def test_main_imports_no_prometheus_client_before_it_prepares_metrics() -> None:
    script = "import sys, worker.__main__; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


@pytest.mark.usefixtures("restored_logging")
def test_call_processes_inherit_keys_without_trailing_newline(
    tmp_path: Path, document: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {**CREDENTIALS, "TAVUS_API_KEY": "tavus-secret"}
    environment = _environment(tmp_path, document | {"avatar": TAVUS}, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    for name, value in {**environment, **{name: f"{value}\n" for name, value in wanted.items()}}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LIVEKIT_AGENT_NAME_OVERRIDE", "another")
    inherited: dict[str, str] = {}
    monkeypatch.setattr(worker, "run", lambda *_: inherited.update(os.environ) or 0)
    monkeypatch.setattr(metrics, "expose_call_processes", lambda _: None)
    assert main() == 0
    assert {name: inherited[name] for name in wanted} == wanted
    assert "LIVEKIT_AGENT_NAME_OVERRIDE" not in inherited


OWN_KEYS = {
    "stt": {"credentialsSecretRef": {"name": "own"}},
    "llm": {"baseURL": "http://vllm.test/v1", "fallbacks": [{"credentialsSecretRef": {"name": "spare"}}]},
    "tts": {"baseURL": "http://kokoro.test/v1"},
}


def test_stages_have_keys_of_their_own(tmp_path: Path, document: dict[str, object]) -> None:
    environment = _environment(
        tmp_path,
        document | {"voice": OWN_KEYS},
        OPENAI_API_KEY="",
        AVATAR_AGENT_STT_KEY=" stt-secret\n",
        AVATAR_AGENT_LLM_KEY_1="spare-secret",
    )
    settings = load_settings(environment)
    assert settings.stage_keys == {"AVATAR_AGENT_STT_KEY": "stt-secret", "AVATAR_AGENT_LLM_KEY_1": "spare-secret"}
    assert "stt-secret" not in repr(settings)


def test_error_names_missing_key_of_a_stage(tmp_path: Path, document: dict[str, object]) -> None:
    environment = _environment(tmp_path, document | {"voice": OWN_KEYS}, AVATAR_AGENT_STT_KEY="k")
    with pytest.raises(SettingsError, match=r"AVATAR_AGENT_LLM_KEY_1 is not set.*spec\.voice\.llm\.fallbacks\[0\]"):
        load_settings(environment)
