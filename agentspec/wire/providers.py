"""Whether the providers of an agent's voice work: what a worker reports about its requests, by stage.

A report says when a request succeeded and failed last, and how it failed. It never contains what was said, heard or
written, nor the provider's own sentence, which may quote it.
"""

from enum import StrEnum

from pydantic import Field

from agentspec.model import Model


class ProviderStage(StrEnum):
    """A step of the voice that asks a provider."""

    STT = "stt"
    LLM = "llm"
    TTS = "tts"


class StageFailure(Model):
    """A request that failed after all its retries."""

    at: float = Field(description="When it failed, in Unix seconds by the worker's clock.")
    status: int | None = Field(
        default=None, description="HTTP status of the answer; null: there was none. 200: an empty reply."
    )
    code: str = Field(
        default="", description="The provider's error code, such as insufficient_quota; empty: it has none."
    )
    parameter: str = Field(
        default="", description="The parameter of the request that the provider rejects, such as voice; empty: unknown."
    )
    error: str = Field(default="", description="Type of the error, such as APITimeoutError.")
    fault: str = Field(
        default="",
        exclude_if=lambda fault: not fault,
        description="What is wrong with the stage's settings, found before any request: the worker does not register. "
        "Empty, and left out: nothing.",
    )


class StageReport(Model):
    """The newest outcomes of one stage's requests."""

    succeeded_at: float | None = Field(
        default=None, description="When a request succeeded last, in Unix seconds by the worker's clock; null: never."
    )
    failure: StageFailure | None = Field(default=None, description="The last failure; null: there was none.")
    failures: int = Field(default=0, ge=0, description="Failures since the last success.")


class StageReports(Model):
    """The outcomes of all stages since the worker started."""

    stt: StageReport = Field(default_factory=StageReport, description="Speech to text.")
    llm: StageReport = Field(default_factory=StageReport, description="Language model.")
    tts: StageReport = Field(default_factory=StageReport, description="Text to speech.")

    def of(self, stage: ProviderStage) -> StageReport:
        """Return the report of a stage."""
        report: StageReport = getattr(self, stage.value)
        return report
