"""What a worker knows of its providers, and what of their answers may leave the worker."""

from typing import Any

import pytest
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError

from agentspec.wire import ProviderStage, StageFailure, StageReports
from tests.waiting import soon
from worker import provider_reports, reports
from worker.provider_reports import PUBLISH_SECONDS, ProviderLog, StageOutcome, failed, succeeded
from worker.stages import EmptyReply

LLM = ProviderStage.LLM


def success(at: float) -> StageOutcome:
    return StageOutcome(stage=LLM, at=at)


def failure(at: float, code: str = "insufficient_quota") -> StageOutcome:
    return StageOutcome(stage=LLM, at=at, failure=StageFailure(at=at, status=429, code=code))


@pytest.mark.parametrize(
    ("outcomes", "succeeded_at", "failed_at", "failures"),
    [
        ([], None, None, 0),
        ([success(1), success(2)], 2, None, 0),
        ([failure(1), failure(2)], None, 2, 2),
        ([success(1), failure(2)], 1, 2, 1),
        ([failure(1), failure(2), success(3)], 3, 2, 0),
        ([success(3), failure(2)], 3, None, 0),
        ([failure(3), success(2)], 2, 3, 1),
        ([failure(3, "new"), failure(2, "old")], None, 3, 2),
    ],
    ids=["nothing", "successes", "failures", "failed last", "recovered", "late failure", "late success", "late older"],
)
def test_newest_outcomes_count(
    outcomes: list[StageOutcome], succeeded_at: float | None, failed_at: float | None, failures: int
) -> None:
    log = ProviderLog()
    for outcome in outcomes:
        log.record(outcome)
    report = log.reports(0.0).llm
    assert report.succeeded_at == succeeded_at
    assert (report.failure.at if report.failure else None) == failed_at
    assert report.failures == failures
    assert log.has_succeeded(LLM) is (succeeded_at is not None)
    assert log.reports(0.0).tts == StageReports().tts, "other stages are as they were"


def test_later_successes_are_published_together() -> None:
    log = ProviderLog()
    log.record(success(1.0))
    first = log.reports(100.0)
    log.record(success(2.0))
    assert log.reports(100.0 + PUBLISH_SECONDS / 2) is first
    assert log.reports(100.0 + PUBLISH_SECONDS).llm.succeeded_at == 2.0, "the newest is published in the end"


def test_failure_and_recovery_are_published_at_once() -> None:
    log = ProviderLog()
    log.record(success(1.0))
    log.reports(100.0)
    log.record(failure(2.0))
    assert log.reports(100.1).llm.failures == 1
    log.record(success(3.0))
    assert log.reports(100.2).llm.failures == 0


def body(**fields: Any) -> dict[str, Any]:
    return {"message": "no", "type": "invalid_request_error", "param": None, "code": None} | fields


ENUMERATION = "[{'type': 'enum', 'loc': ('body', 'voice'), 'msg': \"Input should be 'nova', 'onyx' or 'echo'\"}]"


@pytest.mark.parametrize(
    ("error", "status", "code", "parameter"),
    [
        (APIStatusError("", status_code=429, body=body(code="insufficient_quota")), 429, "insufficient_quota", ""),
        (APIStatusError("", status_code=400, body=body(param="voice")), 400, "invalid_request_error", "voice"),
        (APIStatusError("", status_code=400, body=body(message=ENUMERATION)), 400, "invalid_request_error", "voice"),
        (
            APIStatusError("", status_code=400, body=body(code="invalid_value", message="unknown voice")),
            400,
            "invalid_value",
            "voice",
        ),
        (
            APIStatusError("", status_code=400, body=body(message="no such voice of the model")),
            400,
            "invalid_request_error",
            "",
        ),
        (APIStatusError("", status_code=403, body=body(code=17, type=["x"])), 403, "", ""),
        (APIStatusError("", status_code=500, body="<html>"), 500, "", ""),
        (APIStatusError(""), None, "", ""),
        (APITimeoutError(), None, "", ""),
        (APIConnectionError(), None, "", ""),
        (ValueError("secret"), None, "", ""),
    ],
    ids=[
        "quota",
        "parameter",
        "parameter in a list",
        "parameter in the sentence",
        "two parameters named",
        "fields of other types",
        "no JSON",
        "no status",
        "timeout",
        "unreachable",
        "another error",
    ],
)
def test_failure_has_status_code_and_parameter(error: Exception, status: int | None, code: str, parameter: str) -> None:
    outcome = failed(ProviderStage.TTS, error)
    assert outcome.failure is not None
    assert (outcome.failure.status, outcome.failure.code, outcome.failure.parameter) == (status, code, parameter)
    assert outcome.failure.error == type(error).__name__
    assert outcome.at == outcome.failure.at


@pytest.mark.parametrize("field", ["code", "type", "param"])
@pytest.mark.parametrize("text", ["my card is 4111", "رقمي ٤١١١", "x" * 65, "", "a\nb"])
def test_text_never_leaves_the_worker_as_a_code(field: str, text: str) -> None:
    outcome = failed(LLM, APIStatusError("", status_code=400, body={"message": "my voice, please", field: text}))
    assert outcome.failure is not None
    rendered = outcome.model_dump_json()
    assert not text or text not in rendered
    assert "please" not in rendered


def test_empty_reply_is_a_failure_with_status_200() -> None:
    outcome = failed(LLM, EmptyReply("length", 400))
    assert outcome.failure is not None
    assert (outcome.failure.status, outcome.failure.error) == (200, "EmptyReply")


async def test_outcomes_of_a_call_process_reach_the_log() -> None:
    log = ProviderLog()
    async with reports.receive({StageOutcome: log.record}):
        provider_reports.report(failed(LLM, APITimeoutError()))
        await soon(lambda: log.reports(0.0).llm.failures == 1)
        provider_reports.report(succeeded(LLM))
        await soon(lambda: log.reports(0.0).llm.failures == 0)
