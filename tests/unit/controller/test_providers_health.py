"""ProvidersHealthy: which outcomes count, which field a message names, and which cure."""

from typing import Any

import pytest

from agentspec import AvatarAgentSpec, ConditionStatus, Reason
from agentspec.wire import ProviderStage, StageFailure, StageReport, StageReports
from controller.policy.providers_health import (
    PASSING_FAILURES,
    merged,
    outcomes_differ,
    providers_healthy,
    providers_warning,
    tool_failure,
)
from controller.policy.verdict import Verdict
from tests.unit.controller.builders import spec, status, worker

WORKS = StageReport(succeeded_at=1.0)
QUOTA = StageFailure(at=2.0, status=429, code="insufficient_quota", error="APIStatusError")
SPEC = spec(
    voice={
        "openai": {"baseURL": "https://api.test/v1", "credentialsSecretRef": {"name": "openai"}},
        "stt": {"model": "whisper-2"},
        "llm": {"model": "gpt-9"},
        "tts": {"model": "tts-7", "voice": "onix"},
    },
    language="ar",
)


def failing(failures: int = PASSING_FAILURES, **failure: Any) -> StageReport:
    """A stage that worked before and fails now."""
    return StageReport(
        succeeded_at=1.0, failure=StageFailure(**{"at": 2.0, "error": "APIStatusError", **failure}), failures=failures
    )


def reports(**stages: StageReport) -> StageReports:
    """Stages that work, except for the given ones."""
    return StageReports(**({"stt": WORKS, "llm": WORKS, "tts": WORKS} | stages))


def verdict(**stages: StageReport) -> Verdict:
    return providers_healthy(SPEC, reports(**stages))


def test_working_stages_are_healthy() -> None:
    found = verdict()
    assert (found.status, found.reason) == (ConditionStatus.TRUE, Reason.PROVIDERS_SUCCEEDED)
    assert "stt, llm and tts" in found.message
    assert providers_warning(found) == ""


@pytest.mark.parametrize(
    ("known", "named"),
    [
        (None, "stt, llm and tts"),
        (StageReports(), "stt, llm and tts"),
        (reports(llm=StageReport()), "of llm yet"),
        (reports(tts=StageReport(failure=StageFailure(at=1.0, status=500), failures=1)), "of tts yet"),
    ],
    ids=["no worker", "nothing tried", "one stage not tried", "one passing failure"],
)
def test_untried_stages_are_unknown(known: StageReports | None, named: str) -> None:
    found = providers_healthy(SPEC, known)
    assert (found.status, found.reason) == (ConditionStatus.UNKNOWN, Reason.PROVIDERS_PENDING)
    assert named in found.message
    assert providers_warning(found) == "", "a call may work"


def test_realtime_model_is_the_only_stage_that_must_have_worked() -> None:
    spec = _realtime(voice="onix")
    found = providers_healthy(spec, StageReports(llm=WORKS))
    assert (found.status, found.message) == (ConditionStatus.TRUE, "The last requests of llm succeeded.")
    rejected = providers_healthy(spec, StageReports(llm=failing(status=400, code="invalid_value", parameter="voice")))
    assert "HTTP 400 invalid_value. Correct spec.voice.realtime.voice ('onix')." in rejected.message


def test_report_of_a_stage_that_a_realtime_model_replaces_is_ignored() -> None:
    found = providers_healthy(_realtime(), StageReports(llm=WORKS, stt=failing(status=401)))
    assert found.status is ConditionStatus.TRUE


def _realtime(**fields: str) -> AvatarAgentSpec:
    document = SPEC.model_dump(mode="json", by_alias=True)
    openai = document["voice"]["openai"]
    return AvatarAgentSpec.model_validate(document | {"voice": {"openai": openai, "realtime": fields}})


def test_server_of_tools_that_fails_is_named() -> None:
    failure = "shop: the server has no tool branch_fax; it has branch_phone"
    old = worker("pod-0", status(tool_failure="shop: gone"), template="template-0")
    workers = [old, worker("pod-1", status()), worker("pod-2", status(tool_failure=failure))]
    found = providers_healthy(SPEC, reports(), tool_failure(workers, "template-1"))
    assert (found.status, found.reason) == (ConditionStatus.FALSE, Reason.TOOLS_FAILING)
    assert f"cannot be used: {failure}. Calls continue without them" in found.message
    assert "ToolsFailing" in providers_warning(found)


def test_failing_stage_is_named_before_a_server_of_tools() -> None:
    found = providers_healthy(SPEC, reports(llm=failing(status=401)), "shop: gone")
    assert found.reason is Reason.KEY_REJECTED


FAILURES = [
    (
        "tts",
        {"status": 400, "parameter": "voice"},
        Reason.REQUEST_REJECTED,
        ["HTTP 400", "Correct spec.voice.tts.voice ('onix')."],
    ),
    (
        "tts",
        {"status": 400, "code": "invalid_value"},
        Reason.REQUEST_REJECTED,
        ["HTTP 400 invalid_value", "spec.voice.tts.voice ('onix') or spec.voice.tts.model ('tts-7')"],
    ),
    (
        "tts",
        {"status": 422, "parameter": "model"},
        Reason.REQUEST_REJECTED,
        ["HTTP 422", "Correct spec.voice.tts.model ('tts-7')."],
    ),
    ("stt", {"status": 400, "parameter": "language"}, Reason.REQUEST_REJECTED, ["Correct spec.language ('ar')."]),
    (
        "llm",
        {"status": 400, "parameter": "messages"},
        Reason.REQUEST_REJECTED,
        ["Correct spec.voice.llm.model ('gpt-9')."],
    ),
    (
        "stt",
        {"status": 404, "code": "model_not_found"},
        Reason.MODEL_NOT_FOUND,
        ["HTTP 404 model_not_found", "spec.voice.stt.model ('whisper-2')"],
    ),
    (
        "stt",
        {"status": 404},
        Reason.MODEL_NOT_FOUND,
        ["HTTP 404.", "spec.voice.stt.model ('whisper-2') or spec.voice.openai.baseURL"],
    ),
    (
        "llm",
        {"status": 403, "code": "model_not_found"},
        Reason.MODEL_NOT_FOUND,
        ["HTTP 403", "spec.voice.llm.model ('gpt-9')", "allow the model", "Secret 'openai'"],
    ),
    (
        "llm",
        {"status": 403},
        Reason.KEY_REJECTED,
        ["HTTP 403", "Secret 'openai' (spec.voice.openai.credentialsSecretRef)"],
    ),
    (
        "llm",
        {"status": 401, "code": "invalid_api_key"},
        Reason.KEY_REJECTED,
        ["HTTP 401 invalid_api_key", "Update the key"],
    ),
    (
        "llm",
        {"status": 429, "code": "insufficient_quota"},
        Reason.QUOTA_EXHAUSTED,
        ["HTTP 429 insufficient_quota", "check the account's balance"],
    ),
    (
        "llm",
        {"status": 429, "code": "rate_limit_exceeded"},
        Reason.RATE_LIMITED,
        ["HTTP 429 rate_limit_exceeded", "rate limit"],
    ),
    (
        "llm",
        {"status": 400, "code": "context_length_exceeded", "parameter": "messages"},
        Reason.CONTEXT_TOO_LONG,
        ["context_length_exceeded", "shorten spec.knowledge", "spec.voice.llm.model ('gpt-9')"],
    ),
    (
        "llm",
        {"status": 400, "code": "invalid_function_parameters"},
        Reason.REQUEST_REJECTED,
        ["HTTP 400 invalid_function_parameters", "Correct the parameters of the tools in spec.tools"],
    ),
    (
        "llm",
        {"status": 200, "error": "EmptyReply"},
        Reason.EMPTY_REPLIES,
        ["the reply is empty", "spec.voice.llm.model ('gpt-9')"],
    ),
    ("tts", {"status": 503}, Reason.PROVIDER_FAILING, ["HTTP 503.", "status page"]),
    (
        "tts",
        {"error": "APITimeoutError"},
        Reason.PROVIDER_FAILING,
        ["no answer in time", "can reach spec.voice.openai.baseURL (https://api.test/v1)"],
    ),
    (
        "tts",
        {"error": "APIConnectionError"},
        Reason.PROVIDER_FAILING,
        ["no answer (APIConnectionError)", "worker pods can reach"],
    ),
]


@pytest.mark.parametrize(("stage", "failure", "reason", "words"), FAILURES)
def test_message_names_stage_answer_field_and_cure(
    stage: str, failure: dict[str, Any], reason: Reason, words: list[str]
) -> None:
    found = verdict(**{stage: failing(**failure)})
    assert (found.status, found.reason) == (ConditionStatus.FALSE, reason)
    assert found.message.startswith(f"Requests of {stage} fail: ")
    for word in words:
        assert word in found.message, found.message
    assert found.message.endswith("The next request that succeeds clears this condition.")
    assert reason.value in providers_warning(found)


def test_fault_of_all_stages_is_explained_once() -> None:
    same = failing(status=429, code="insufficient_quota")
    found = verdict(stt=same, llm=same, tts=same)
    assert found.message.startswith("Requests of stt, llm and tts fail: HTTP 429 insufficient_quota.")
    assert found.message.count("balance") == 1


def test_different_faults_are_all_named() -> None:
    found = verdict(stt=failing(status=404, code="model_not_found"), tts=failing(status=400, parameter="voice"))
    assert found.reason is Reason.MODEL_NOT_FOUND, "that of the first stage"
    assert "whisper-2" in found.message and "onix" in found.message


@pytest.mark.parametrize(
    ("failure", "failures", "is_healthy"),
    [
        ({"status": 400, "parameter": "voice"}, 1, False),
        ({"status": 429, "code": "insufficient_quota"}, 1, False),
        ({"status": 500}, 1, True),
        ({"status": 500}, 2, False),
        ({"status": 429}, 1, True),
        ({"error": "APITimeoutError"}, 1, True),
        ({"error": "APITimeoutError"}, 2, False),
    ],
)
def test_fault_that_may_pass_counts_when_it_happens_again(
    failure: dict[str, Any], failures: int, is_healthy: bool
) -> None:
    assert (verdict(llm=failing(failures, **failure)).status is ConditionStatus.TRUE) is is_healthy


def test_first_success_clears_the_condition() -> None:
    recovered = StageReport(succeeded_at=3.0, failure=QUOTA, failures=0)
    assert verdict(llm=recovered).status is ConditionStatus.TRUE


def failed_at(at: float, failures: int = 1) -> StageReport:
    return StageReport(failure=QUOTA.model_copy(update={"at": at}), failures=failures)


@pytest.mark.parametrize(
    ("known", "reported", "succeeded_at", "failed_at", "failures"),
    [
        (StageReport(), WORKS, 1.0, None, 0),
        (WORKS, failed_at(2.0), 1.0, 2.0, 1),
        (failed_at(2.0), StageReport(succeeded_at=3.0), 3.0, 2.0, 0),
        (failed_at(2.0), StageReport(succeeded_at=1.0), 1.0, 2.0, 1),
        (StageReport(succeeded_at=3.0), failed_at(2.0), 3.0, 2.0, 0),
        (failed_at(2.0), failed_at(2.0), None, 2.0, 1),
        (failed_at(2.0), failed_at(3.0), None, 3.0, 2),
        (failed_at(2.0), failed_at(3.0, failures=5), None, 3.0, 5),
        (failed_at(3.0), failed_at(2.0), None, 3.0, 1),
    ],
    ids=[
        "first success", "failure after a success", "another worker succeeds later", "another worker succeeded before",
        "old failure of another worker", "the same report again", "two workers fail", "one worker fails often",
        "older failure",
    ],
)  # fmt: skip
def test_outcomes_of_several_workers_count_together(
    known: StageReport, reported: StageReport, succeeded_at: float | None, failed_at: float | None, failures: int
) -> None:
    found = merged(StageReports(llm=known), StageReports(llm=reported)).of(ProviderStage.LLM)
    assert found.succeeded_at == succeeded_at
    assert (found.failure.at if found.failure else None) == failed_at
    assert found.failures == failures


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [
        (StageReport(), WORKS, True),
        (WORKS, StageReport(succeeded_at=9.0), False),
        (WORKS, failed_at(2.0), True),
        (failed_at(2.0, 2), failed_at(3.0, 3), False),
        (failed_at(2.0, 1), failed_at(3.0, 2), True),
        (failed_at(2.0), StageReport(succeeded_at=3.0, failure=QUOTA), True),
    ],
    ids=["first success", "another success", "first failure", "another failure", "second failure", "recovered"],
)
def test_only_outcomes_that_may_change_the_verdict_differ(before: StageReport, now: StageReport, differs: bool) -> None:
    assert outcomes_differ(StageReports(tts=before), StageReports(tts=now)) is differs


def test_invalid_settings_are_reported_at_once() -> None:
    fault = StageFailure(at=2.0, fault="spec.voice.stt.options.modle: deepgram.STT takes no such option")
    found = verdict(stt=StageReport(failure=fault, failures=1))
    assert (found.status, found.reason) == (ConditionStatus.FALSE, Reason.STAGE_SETTINGS_INVALID)
    assert "cannot use the settings of stt" in found.message and "options.modle" in found.message
    assert "Correct the manifest" in found.message
    assert "do not register: see ProvidersHealthy" in providers_warning(found)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        pytest.param(
            {"provider": "Plugin", "plugin": "deepgram", "credentialsSecretRef": {"name": "dg"}},
            "Update the key in Secret 'dg' (spec.voice.stt.credentialsSecretRef)",
            id="a plugin",
        ),
        pytest.param(
            {"provider": "Plugin", "plugin": "deepgram"},
            "spec.voice.stt.credentialsSecretRef, which is not set",
            id="a plugin without a key",
        ),
        pytest.param(
            {"provider": "Inference", "model": "a/b"},
            "Secret 'livekit' (spec.livekit.credentialsSecretRef)",
            id="LiveKit's gateway",
        ),
        pytest.param(
            {"baseURL": "http://whisper.test/v1", "credentialsSecretRef": {"name": "own"}},
            "Secret 'own' (spec.voice.stt.credentialsSecretRef)",
            id="an own address",
        ),
    ],
)
def test_message_names_the_key_of_the_stage(stage: dict[str, Any], words: str) -> None:
    declared = spec(voice={"openai": {"credentialsSecretRef": {"name": "openai"}}, "stt": stage})
    message = providers_healthy(declared, reports(stt=failing(status=401))).message
    assert words in message


def test_message_names_the_server_of_the_stage() -> None:
    stage = {"baseURL": "http://whisper.test/v1", "options": {"prompt": "x"}}
    declared = spec(voice={"openai": {"credentialsSecretRef": {"name": "openai"}}, "stt": stage})
    timeout = providers_healthy(declared, reports(stt=failing(error="APITimeoutError"))).message
    assert "can reach spec.voice.stt.baseURL (http://whisper.test/v1)" in timeout
    rejected = providers_healthy(declared, reports(stt=failing(status=400))).message
    assert "spec.voice.stt.model ('whisper-1') or spec.voice.stt.options" in rejected
