"""Provider reports: how the requests of a worker's calls to providers ended, by stage.

A call process reports every outcome (`worker.reports`); the main process keeps the newest ones for its worker status.
A report never contains text: the provider's sentence may quote what a caller said.
"""

import re
import time
from typing import Final

from livekit.agents import APIError, APIStatusError

from agentspec.model import Model
from agentspec.wire import ProviderStage, StageFailure, StageReport, StageReports
from worker import reports

PUBLISH_SECONDS: Final = 10.0
"""How often later successes of a working stage are published: the controller receives each change of the status."""

_CONSTANT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
"""What a provider may send as an error code or parameter. Anything else may be content."""
_PARAMETERS: Final = ("voice", "model", "language")
"""Parameters that come from the manifest. OpenAI names a wrong voice in its sentence only."""


class StageOutcome(Model):
    """How one request of a stage ended, after all its retries."""

    stage: ProviderStage
    at: float
    """Unix seconds."""
    failure: StageFailure | None = None
    """None: it succeeded."""


class ProviderLog:
    """The newest outcomes of one worker's requests."""

    def __init__(self) -> None:
        self._newest = StageReports()
        self._published = self._newest
        self._published_at = float("-inf")

    def record(self, outcome: StageOutcome) -> None:
        """Add an outcome. Outcomes of several calls may arrive in another order than they happened."""
        known = self._newest.of(outcome.stage)
        report = _with_success(known, outcome.at) if outcome.failure is None else _with_failure(known, outcome.failure)
        self._newest = self._newest.model_copy(update={outcome.stage.value: report})

    def has_succeeded(self, stage: ProviderStage) -> bool:
        """Whether a request of the stage has ever succeeded."""
        return self._newest.of(stage).succeeded_at is not None

    def reports(self, now: float) -> StageReports:
        """Return the outcomes to publish; `now` is in seconds of a monotonic clock.

        Failures, and the first success after them, are published at once, later successes every PUBLISH_SECONDS.
        """
        due = now - self._published_at >= PUBLISH_SECONDS
        if self._newest != self._published and (due or _verdicts(self._newest) != _verdicts(self._published)):
            self._published, self._published_at = self._newest, now
        return self._published


def _with_success(known: StageReport, at: float) -> StageReport:
    is_newest = known.failure is None or at >= known.failure.at
    return known.model_copy(
        update={"succeeded_at": max(at, known.succeeded_at or at), "failures": 0 if is_newest else known.failures}
    )


def _with_failure(known: StageReport, failure: StageFailure) -> StageReport:
    if known.succeeded_at is not None and failure.at < known.succeeded_at:
        return known
    newest = failure if known.failure is None or failure.at >= known.failure.at else known.failure
    return known.model_copy(update={"failure": newest, "failures": known.failures + 1})


def _verdicts(reports: StageReports) -> list[tuple[bool, StageFailure | None, int]]:
    stages = [reports.of(stage) for stage in ProviderStage]
    return [(stage.succeeded_at is not None, stage.failure, stage.failures) for stage in stages]


def failed(stage: ProviderStage, error: BaseException) -> StageOutcome:
    """Return the outcome of a request that raised `error`."""
    now = time.time()
    answer = _answer(error)
    failure = StageFailure(
        at=now,
        status=error.status_code if isinstance(error, APIStatusError) and error.status_code > 0 else None,
        code=code_of(error),
        parameter=_constant(answer.get("param")) or _named_parameter(answer.get("message")),
        error=type(error).__name__,
    )
    return StageOutcome(stage=stage, at=now, failure=failure)


def invalid(stage: ProviderStage, fault: str) -> StageOutcome:
    """Return the outcome of settings that no request can be sent with."""
    now = time.time()
    return StageOutcome(stage=stage, at=now, failure=StageFailure(at=now, fault=fault))


def code_of(error: BaseException) -> str:
    """Return the provider's constant for an error, such as `context_length_exceeded`; empty when it sent none."""
    answer = _answer(error)
    return _constant(answer.get("code")) or _constant(answer.get("type"))


def succeeded(stage: ProviderStage) -> StageOutcome:
    """Return the outcome of a request that succeeded now."""
    return StageOutcome(stage=stage, at=time.time())


def report(outcome: StageOutcome) -> None:
    """Report an outcome to the worker's main process, from a call process."""
    reports.send(outcome)


def _answer(error: BaseException) -> dict[str, object]:
    body = error.body if isinstance(error, APIError) else None
    return body if isinstance(body, dict) else {}


def _constant(value: object) -> str:
    return value if isinstance(value, str) and _CONSTANT.fullmatch(value) else ""


def _named_parameter(sentence: object) -> str:
    """Return the one parameter of the manifest that the provider's sentence names; empty when it names none or more."""
    words = set(re.findall(r"[a-z]+", sentence.lower())) if isinstance(sentence, str) else set()
    named = [parameter for parameter in _PARAMETERS if parameter in words]
    return named[0] if len(named) == 1 else ""
