"""A worker that cannot use the settings of a stage: it runs, reports why, and does not register."""

import asyncio
import sys
import time
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from livekit.plugins import openai

from agentspec.wire import STAGES_QUERY, ProviderStage, StageReports, WorkerConfig, WorkerStatus, read
from tests.ports import free_port
from tests.unit.worker.builders import make_config, make_settings
from worker.server import broken_code, worker

WRONG = {"openai": {"credentialsSecretRef": {"name": "openai"}}, "llm": {"options": {"temprature": 0.1}}}
ENGLISH = {"provider": "Plugin", "plugin": "english"}


async def test_invalid_settings_are_reported_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    reports = await worker.check_stages(make_settings(make_config(voice=WRONG)))
    report = reports.of(ProviderStage.LLM)
    assert report.failure is not None and report.failures == 1
    assert report.failure.fault.startswith("spec.voice.llm.options: temprature is no option of ")
    assert report.failure.at == pytest.approx(time.time(), abs=60)
    assert "stage settings invalid" in caplog.text


@pytest.mark.parametrize("options", [{}, {"temperature": 0.1}], ids=["nothing to check", "valid options"])
async def test_valid_settings_have_no_failure(options: dict[str, float]) -> None:
    voice = WRONG | {"llm": {"options": options}}
    assert await worker.check_stages(make_settings(make_config(voice=voice))) == StageReports()


class EnglishSTT(openai.STT):
    def __init__(self, *, language: str = "en") -> None:
        if language != "en":
            raise ValueError(f"no model for {language}")
        super().__init__(api_key="key", use_realtime=False)


async def test_settings_are_checked_for_every_language_of_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("livekit.plugins.english")
    module.STT = EnglishSTT
    monkeypatch.setitem(sys.modules, "livekit.plugins.english", module)
    config = make_config(language="en", languages=["de"], voice=WRONG | {"llm": {}, "stt": ENGLISH})
    failure = (await worker.check_stages(make_settings(config))).stt.failure
    assert failure is not None and failure.fault == "spec.voice.stt: ValueError: no model for de"


async def test_worker_with_invalid_settings_serves_its_status(config: WorkerConfig) -> None:
    port = free_port()
    reports = await worker.check_stages(make_settings(make_config(voice=WRONG)))
    serving = asyncio.create_task(broken_code.serve(config, port, reports=reports, seconds=60.0))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        status = None
        while status is None:
            try:
                async with session.get(f"/status?{STAGES_QUERY}=1") as answer:
                    status = read(WorkerStatus, await answer.read())
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.01)
        async with session.get("/readyz") as ready:
            assert ready.status == 503
    assert not status.registered and status.stages == reports
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
