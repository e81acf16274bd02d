"""What a call process prepares before it gets a job."""

import faulthandler
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker.call import job
from worker.config import CONFIG_VARIABLE, load_settings

CREDENTIALS = {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "secret", "OPENAI_API_KEY": "openai"}


async def test_call_process_ignores_signals_and_has_the_workers_settings(
    tmp_path: Path, document: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(document))
    for name, value in {**CREDENTIALS, CONFIG_VARIABLE: f" {path}\n"}.items():
        monkeypatch.setenv(name, value)
    handlers: dict[int, object] = {}
    dumps: list[int] = []
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(faulthandler, "register", dumps.append)
    crash_handlers: list[bool] = []
    monkeypatch.setattr(faulthandler, "enable", lambda: crash_handlers.append(True))
    process = SimpleNamespace(userdata={})
    job.prewarm(cast(Any, process))
    assert handlers == {signal.SIGTERM: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN}
    assert dumps == [signal.SIGUSR1]
    assert crash_handlers == [True]
    assert process.userdata["config"] == load_settings().config
    stages = process.userdata["stages"]
    client = stages._providers._common
    common = load_settings().config.voice.openai
    assert common is not None
    assert (client.api_key, str(client.base_url)) == ("openai", common.base_url + "/")
    await stages.aclose()
