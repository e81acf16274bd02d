"""The trial of the providers when a worker starts: the SDK's own plugins against a small server."""

import asyncio
import io
import json
import random
import tempfile
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agentspec.wire import ProviderStage, StageReport, WorkerConfig
from tests.unit.worker.fakes import silence
from worker.call import budget, phrases, voice
from worker.call.voice import Stages
from worker.provider_reports import ProviderLog, succeeded
from worker.server import trials

PATHS = {ProviderStage.LLM: "/v1/chat/completions", ProviderStage.STT: "/v1/audio/transcriptions"}


@dataclass
class Provider:
    """Answers like OpenAI; refuses paths in `refusals` with a status and an error object."""

    refusals: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    reply: str = "yes"
    requests: list[str] = field(default_factory=list)
    recordings: list[bytes] = field(default_factory=list)
    prompts: list[Any] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        if request.path == PATHS[ProviderStage.STT]:
            form = await request.post()
            recording = form["file"]
            assert isinstance(recording, web.FileField)
            self.recordings.append(recording.file.read())
        else:
            self.prompts.append(await request.json())
        if request.path in self.refusals:
            status, error = self.refusals[request.path]
            return web.json_response({"error": error}, status=status)
        if request.path == PATHS[ProviderStage.STT]:
            return web.json_response({"text": ""})
        delta = {"content": self.reply} if self.reply else {}
        chunks = [({"role": "assistant", **delta}, None), ({}, "stop" if self.reply else "length")]
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        lines = [head | {"choices": [{"index": 0, "delta": part, "finish_reason": end}]} for part, end in chunks]
        events = "".join(f"data: {json.dumps(line)}\n\n" for line in lines)
        return web.Response(text=f"{events}data: [DONE]\n\n", content_type="text/event-stream")


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def stages(provider: Provider, config: WorkerConfig) -> AsyncIterator[Stages]:
    app = web.Application()
    app.router.add_post("/v1/{path:.*}", provider.answer)
    async with TestServer(app) as server:
        assert config.voice.openai is not None
        base = config.voice.openai.model_copy(update={"base_url": str(server.make_url("/v1"))})
        declared = config.voice.model_copy(update={"openai": base})
        stages = Stages(declared, voice.make_client(declared, "key"))
        yield stages
        await stages.aclose()


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.0)
    monkeypatch.setattr(budget, "PREPARE_RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def registered() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def _report(log: ProviderLog, stage: ProviderStage) -> StageReport:
    return log.reports(0.0).of(stage)


async def test_working_stages_are_tried_once(
    config: WorkerConfig, stages: Stages, provider: Provider, registered: asyncio.Event
) -> None:
    log = ProviderLog()
    await trials.run(config, stages, log, registered)
    assert sorted(provider.requests) == sorted(PATHS.values())
    assert all(log.has_succeeded(stage) and _report(log, stage).failures == 0 for stage in PATHS)


async def test_trial_is_small(
    config: WorkerConfig,
    stages: Stages,
    provider: Provider,
    registered: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def prepared(*_: object) -> object:
        return silence(3.0)

    monkeypatch.setattr(phrases, "prepared", prepared)
    await trials.run(config, stages, ProviderLog(), registered)
    with wave.open(io.BytesIO(provider.recordings[0])) as recording:
        assert recording.getnframes() / recording.getframerate() == pytest.approx(1.0)
    assert len(json.dumps(provider.prompts[0]["messages"])) < 200, "neither instructions nor knowledge"


async def test_nothing_is_tried_before_the_registration(
    config: WorkerConfig, stages: Stages, provider: Provider
) -> None:
    event = asyncio.Event()
    running = asyncio.create_task(trials.run(config, stages, ProviderLog(), event))
    await asyncio.sleep(0)
    assert provider.requests == [] and not running.done()
    event.set()
    await running
    assert provider.requests != []


async def test_stage_that_a_call_has_shown_to_work_is_not_tried(
    config: WorkerConfig, stages: Stages, provider: Provider, registered: asyncio.Event
) -> None:
    log = ProviderLog()
    log.record(succeeded(ProviderStage.LLM))
    await trials.run(config, stages, log, registered)
    assert provider.requests == [PATHS[ProviderStage.STT]]


@pytest.mark.parametrize(
    ("stage", "status", "error"),
    [
        (ProviderStage.STT, 404, {"code": "model_not_found", "message": "The model `whisper-2` does not exist"}),
        (ProviderStage.LLM, 403, {"code": "model_not_found", "message": "Project has no access to the model"}),
        (ProviderStage.LLM, 429, {"code": "insufficient_quota", "message": "You exceeded your current quota"}),
        (ProviderStage.STT, 400, {"code": "invalid_language_format", "param": "language", "message": "Invalid"}),
    ],
    ids=["unknown model", "model not allowed", "quota", "language"],
)
async def test_failed_stage_is_reported_and_retried(
    config: WorkerConfig,
    stages: Stages,
    provider: Provider,
    registered: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stage: ProviderStage,
    status: int,
    error: dict[str, str],
) -> None:
    monkeypatch.setattr(voice, "LLM_CONNECTION", voice.LLM_CONNECTION.__class__(max_retry=0, timeout=5.0))
    provider.refusals[PATHS[stage]] = (status, error)
    log = ProviderLog()
    await trials.run(config, stages, log, registered)
    report = _report(log, stage)
    assert report.failure is not None
    assert (report.failure.status, report.failure.code) == (status, error["code"])
    assert report.failures == len(budget.PREPARE_RETRY_SECONDS) + 1 and report.succeeded_at is None
    other = next(one for one in PATHS if one is not stage)
    assert log.has_succeeded(other) and provider.requests.count(PATHS[other]) == 1
    logged = [record.__dict__ for record in caplog.records if record.message == "trying a provider failed"]
    assert [(line["stage"], line["status"], line["error"]) for line in logged] == [(stage, status, error["code"])] * 3


async def test_empty_reply_is_a_failure(
    config: WorkerConfig, stages: Stages, provider: Provider, registered: asyncio.Event
) -> None:
    provider.reply = ""
    log = ProviderLog()
    await trials.run(config, stages, log, registered)
    failure = _report(log, ProviderStage.LLM).failure
    assert failure is not None and (failure.status, failure.error) == (200, "EmptyReply")


async def test_endless_attempt_ends_as_a_failure(
    config: WorkerConfig, stages: Stages, registered: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(trials, "ATTEMPT_SECONDS", 0.0)
    monkeypatch.setattr(trials, "_ATTEMPTS", {ProviderStage.LLM: hang})
    log = ProviderLog()
    await trials.run(config, stages, log, registered)
    failure = _report(log, ProviderStage.LLM).failure
    assert failure is not None and failure.error == "TimeoutError"


async def test_internal_error_does_not_end_the_worker(
    config: WorkerConfig,
    stages: Stages,
    registered: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crash(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(trials, "_ATTEMPTS", {ProviderStage.LLM: crash})
    await trials.run(config, stages, ProviderLog(), registered)
    assert "trial crashed" in caplog.text


@pytest.mark.parametrize("seconds", [None, 0.3, 1.0, 2.5])
def test_first_second_is_exactly_one_second(seconds: float | None) -> None:
    assert trials.first_second(None if seconds is None else silence(seconds)).duration == pytest.approx(1.0)
