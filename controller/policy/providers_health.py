"""Decides ProvidersHealthy: whether the requests of calls to the providers of stt, llm and tts succeed.

Workers report how requests ended. The outcomes of all workers with the same configuration count together, and a stage
fails when its newest failure is newer than its newest success. Times are those of the workers' clocks, which nodes keep
within fractions of a second of each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, Reason
from agentspec.voice import RealtimeSpec, StageEntry, StageProvider, TextToSpeechProvider
from agentspec.wire import ProviderStage, StageFailure, StageReport, StageReports
from controller.observation import ObservedWorker
from controller.policy.verdict import Verdict, false, true, unknown
from controller.policy.wording import LONG_QUOTE_LENGTH, quoted

PASSING_FAILURES = 2
"""Failures in a row after which a fault that often passes by itself counts: a timeout, a rate limit, a 5xx."""

_PASSING = frozenset({Reason.PROVIDER_FAILING, Reason.RATE_LIMITED, Reason.EMPTY_REPLIES})
_CODE_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the requests of a stage, and what to do about it."""

    reason: Reason
    answer: str
    """What the provider answered, in a few words."""
    cure: str


def merged(known: StageReports, reported: StageReports) -> StageReports:
    """The newest outcomes of both: what is known of a configuration, and what one of its workers reports."""
    return StageReports(
        stt=_merged(known.stt, reported.stt),
        llm=_merged(known.llm, reported.llm),
        tts=_merged(known.tts, reported.tts),
    )


def _merged(known: StageReport, reported: StageReport) -> StageReport:
    successes = [report.succeeded_at for report in (known, reported) if report.succeeded_at is not None]
    succeeded_at = max(successes, default=None)
    failure, failures = known.failure, known.failures
    if reported.failure is not None and (failure is None or reported.failure.at > failure.at):
        failure, failures = reported.failure, max(failures + 1, reported.failures)
    if failure is None or (succeeded_at is not None and succeeded_at >= failure.at):
        failures = 0
    return StageReport(succeeded_at=succeeded_at, failure=failure, failures=failures)


def outcomes_differ(before: StageReports, now: StageReports) -> bool:
    """Whether a stage failed, failed otherwise, or recovered: another success changes no decision."""
    return any(_essence(before.of(stage)) != _essence(now.of(stage)) for stage in ProviderStage)


def _essence(report: StageReport) -> object:
    failing = report.failure.model_copy(update={"at": 0.0}) if report.failure is not None and report.failures else None
    return report.succeeded_at is not None, failing, min(report.failures, PASSING_FAILURES)


def tool_failure(workers: Sequence[ObservedWorker], template: str) -> str:
    """Why the tools of an MCP server cannot be used, by a worker of the current template; empty: none says so."""
    for worker in workers:
        if worker.pod.template == template and worker.status is not None and worker.status.tool_failure:
            return worker.status.tool_failure
    return ""


def providers_healthy(spec: AvatarAgentSpec, reports: StageReports | None, tool_failure: str = "") -> Verdict:
    """Whether the last requests succeeded. `reports`: of workers with the current configuration; None: there is none.

    Unknown until each stage has had a request, which a worker sends when it starts. `tool_failure`: why an MCP server
    cannot be used.
    """
    reports = reports or StageReports()
    faults = faults_of(spec, reports)
    invalid = {stage: fault for stage, fault in faults.items() if fault.reason is Reason.STAGE_SETTINGS_INVALID}
    if invalid:
        found = " ".join(f"{fault.answer}." for fault in invalid.values())
        return false(
            Reason.STAGE_SETTINGS_INVALID,
            f"Workers cannot use the settings of {_listed(list(invalid))}, and do not register: {found} Correct the "
            "manifest and apply it again.",
        )
    if faults:
        sentences = [
            f"Requests of {_listed(stages)} fail: {fault.answer}. {fault.cure}"
            for fault, stages in _by_fault(faults).items()
        ]
        clear = "The next request that succeeds clears this condition."
        return false(next(iter(faults.values())).reason, " ".join([*sentences, clear]))
    if tool_failure:
        return false(
            Reason.TOOLS_FAILING,
            f"Tools of spec.tools cannot be used: {quoted(tool_failure)}. Calls continue without them. Correct url, "
            "headers and allowedTools, and check that worker pods can reach the server. A worker tries again within a "
            "minute.",
        )
    needed = [ProviderStage(stage) for stage in spec.voice.needed_stages]
    untried = [stage for stage in needed if reports.of(stage).succeeded_at is None]
    if untried:
        return unknown(
            Reason.PROVIDERS_PENDING,
            f"No worker with the current configuration has reported a successful request of {_listed(untried)} yet. "
            "Workers try each stage when they start; worker images of release 0.1.0 report nothing.",
        )
    return true(Reason.PROVIDERS_SUCCEEDED, f"The last requests of {_listed(needed)} succeeded.")


def providers_warning(verdict: Verdict) -> str:
    """What Ready adds to its message while requests to providers fail; empty while none fail."""
    if verdict.reason is Reason.STAGE_SETTINGS_INVALID:
        return "Warning: workers cannot use the settings of a stage, and do not register: see ProvidersHealthy."
    failing = verdict.reason not in (Reason.PROVIDERS_SUCCEEDED, Reason.PROVIDERS_PENDING)
    return f"Warning: requests to a provider fail ({verdict.reason}): see ProvidersHealthy." if failing else ""


def faults_of(spec: AvatarAgentSpec, reports: StageReports) -> dict[ProviderStage, Fault]:
    """The stages whose requests fail, each with its fault."""
    faults = {}
    for stage in ProviderStage:
        report = reports.of(stage)
        entry = next(spec.voice.entries_of(stage), None)
        if entry is None or report.failure is None or not report.failures:
            continue
        fault = _fault(spec, entry, report.failure)
        if fault.reason not in _PASSING or report.failures >= PASSING_FAILURES:
            faults[stage] = fault
    return faults


def _by_fault(faults: Mapping[ProviderStage, Fault]) -> dict[Fault, list[ProviderStage]]:
    """The stages of each fault, so that a fault of all stages is explained once."""
    stages: dict[Fault, list[ProviderStage]] = {}
    for stage, fault in faults.items():
        stages.setdefault(fault, []).append(stage)
    return stages


def _fault(spec: AvatarAgentSpec, entry: StageEntry, failure: StageFailure) -> Fault:
    """Why a request failed, by status and code as OpenAI's API reference lists them ("Error codes").

    `entry`: the first provider of the stage. Requests fail when it fails, and all its fallbacks too.
    """
    key, server = _key(spec, entry), _server(spec, entry)
    reason, cure = Reason.PROVIDER_FAILING, f"Check the provider's status page and {server}."
    match failure:
        case StageFailure(fault=fault) if fault:
            return Fault(Reason.STAGE_SETTINGS_INVALID, quoted(fault, LONG_QUOTE_LENGTH), "")
        case StageFailure(code="insufficient_quota"):
            reason = Reason.QUOTA_EXHAUSTED
            cure = f"The quota is used up: check the account's balance and limits, for the key in {key}."
        case StageFailure(status=429):
            reason = Reason.RATE_LIMITED
            cure = f"Raise the account's rate limit, for the key in {key}, or allow fewer calls at a time."
        case StageFailure(code="invalid_function_parameters"):
            reason = Reason.REQUEST_REJECTED
            cure = "Correct the parameters of the tools in spec.tools: each must be a JSON Schema of an object."
        case StageFailure(code="context_length_exceeded"):
            reason = Reason.CONTEXT_TOO_LONG
            cure = (
                "Instructions, knowledge and conversation are too long for the model: shorten spec.knowledge, or set a "
                f"model with a larger context in {_model(entry)}."
            )
        case StageFailure(status=404 | 403, code="model_not_found"):
            reason = Reason.MODEL_NOT_FOUND
            cure = f"Correct {_model(entry)}, or allow the model for the project of the key in {key}."
        case StageFailure(status=404):
            reason = Reason.MODEL_NOT_FOUND
            cure = f"Correct {_model(entry)} or {server}."
        case StageFailure(status=401 | 403):
            reason, cure = Reason.KEY_REJECTED, f"Update the key in {key}, and check what the key may do."
        case StageFailure(status=400 | 422):
            reason, cure = Reason.REQUEST_REJECTED, f"Correct {_fields(spec, entry, failure.parameter)}."
        case StageFailure(status=200):
            reason = Reason.EMPTY_REPLIES
            cure = f"The model may spend its tokens on reasoning: set a model without it in {_model(entry)}."
        case StageFailure(status=None):
            cure = f"Check that worker pods can reach {server}."
    return Fault(reason, _answer(failure), cure)


def _answer(failure: StageFailure) -> str:
    if failure.status == 200:
        return "the reply is empty"
    if failure.status is not None:
        return f"HTTP {failure.status} {quoted(failure.code, _CODE_LENGTH)}".rstrip()
    if "Timeout" in failure.error:
        return "no answer in time"
    return f"no answer ({quoted(failure.error, _CODE_LENGTH)})"


def _fields(spec: AvatarAgentSpec, entry: StageEntry, parameter: str) -> str:
    """The field behind a parameter that the provider rejects; all that the stage sends if it is not known."""
    fields = {"model": _model(entry)}
    if entry.stage == ProviderStage.STT:
        fields["language"] = f"spec.language ({spec.language!r})"
    if isinstance(entry.provider, TextToSpeechProvider | RealtimeSpec):
        fields["voice"] = f"{entry.field}.voice ({entry.provider.voice!r})"
    named = fields.get(parameter) or " or ".join(reversed(fields.values()))
    return f"{named} or {entry.field}.options" if entry.provider.options else named


def _key(spec: AvatarAgentSpec, entry: StageEntry) -> str:
    """The Secret with the key of a provider, and the field that names it."""
    provider, own = entry.provider, entry.provider.credentials_secret_ref
    if own is not None:
        return f"Secret {own.name!r} ({entry.field}.credentialsSecretRef)"
    if provider.provider is StageProvider.INFERENCE:
        return f"Secret {spec.livekit.credentials_secret_ref.name!r} (spec.livekit.credentialsSecretRef)"
    if provider.provider is StageProvider.OPENAI and spec.voice.openai is not None and spec.voice.address(entry).secret:
        return f"Secret {spec.voice.openai.credentials_secret_ref.name!r} (spec.voice.openai.credentialsSecretRef)"
    return f"{entry.field}.credentialsSecretRef, which is not set"


def _server(spec: AvatarAgentSpec, entry: StageEntry) -> str:
    """The address of a provider, and the field that sets it."""
    provider = entry.provider
    if provider.base_url is not None:
        return f"{entry.field}.baseURL ({provider.base_url})"
    if provider.provider is StageProvider.PLUGIN:
        return f"the address that plugin {provider.plugin} uses ({entry.field})"
    if provider.provider is StageProvider.INFERENCE:
        return f"LiveKit's model gateway ({entry.field})"
    return f"spec.voice.openai.baseURL ({spec.voice.address(entry).base_url})"


def _model(entry: StageEntry) -> str:
    return f"{entry.field}.model ({entry.provider.model!r})"


def _listed(stages: list[ProviderStage]) -> str:
    *others, last = (stage.value for stage in stages)
    return f"{', '.join(others)} and {last}" if others else last
