"""The report of a call: what a worker sends to the address in `spec.report` when a call has ended.

Its form is the one that Standard Webhooks recommends: a type, a time and the data. docs/reference/call-report.json is
the JSON Schema, generated from these types. Fields are only added; a change of another kind gets another `version`.
"""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import Field

from agentspec.model import Model
from agentspec.wire.providers import ProviderStage
from agentspec.wire.room import CallOutcome
from agentspec.wire.turns import Speaker


class SaidTurn(Model):
    """One utterance of the caller or the agent."""

    speaker: Speaker
    text: str = Field(description="What was said. Of an interrupted agent, what the caller heard.")
    at: datetime = Field(description="When it was complete.")
    interrupted: bool = Field(default=False, description="The caller interrupted the agent.")


class UsedTool(Model):
    """One use of a tool. Its arguments and its result are not reported."""

    name: str
    at: datetime
    failed: bool = False


class ModelUsage(Model):
    """What one model of a provider was sent and returned in the call."""

    stage: ProviderStage
    provider: str = Field(description="The provider, as its plugin names it: of OpenAI, the host of its base URL.")
    model: str
    input_tokens: int = 0
    cached_input_tokens: int = Field(default=0, description="Those of the input tokens that the provider had cached.")
    output_tokens: int = 0
    characters: int = Field(default=0, description="Characters that were synthesised.")
    audio_seconds: float = Field(default=0.0, description="Seconds of audio that were transcribed or synthesised.")


class TurnLatency(Model):
    """How long the caller waited for a reply. The stages follow one another; an unknown one is null."""

    at: datetime = Field(description="When the reply was complete.")
    total_seconds: float = Field(description="From the end of the caller's speech until the agent started to reply.")
    stt_seconds: float | None = Field(default=None, description="To the transcript.")
    end_of_turn_seconds: float | None = Field(default=None, description="To the decision that the caller has finished.")
    llm_seconds: float | None = Field(default=None, description="To the first token.")
    tts_seconds: float | None = Field(default=None, description="From the first text to the first audio.")


class CallCost(Model):
    """What the call cost, by the prices of the manifest."""

    currency: str
    total: Decimal = Field(description="Sum over the models that have a price, rounded to millionths.")
    models: dict[str, Decimal] = Field(description="Cost by model.")
    models_without_price: list[str] = Field(
        default_factory=list, description="Models that the call used and that have no price. The total lacks them."
    )


class ReportedCall(Model):
    """A call that has ended."""

    version: Literal[1] = 1
    call_id: str = Field(description="The gateway's id of the call; empty: no gateway made the dispatch.")
    job_id: str = Field(description="LiveKit's id of the agent's part. After a rescue, a call has more than one.")
    agent: str = Field(description="AvatarAgent, as `namespace/name`.")
    agent_name: str = Field(description="The name that calls are dispatched to.")
    room: str
    user_id: str = Field(description="The website's own id of the caller; empty: it sent none.")
    language: str = Field(description="BCP 47 language of the conversation.")
    started_at: datetime
    ended_at: datetime
    seconds: float = Field(description="Duration, from the start of the agent's job to its end.")
    outcome: CallOutcome
    turns: list[SaidTurn] | None = Field(default=None, description="The newest turns. Null: not included.")
    turns_left_out: int = Field(default=0, description="How many of the oldest turns had no space in the report.")
    tools: list[UsedTool] | None = Field(default=None, description="Tools that the agent used. Null: not included.")
    usage: list[ModelUsage] | None = Field(default=None, description="Usage by model. Null: not included.")
    latencies: list[TurnLatency] | None = Field(default=None, description="Latency by turn. Null: not included.")
    cost: CallCost | None = Field(default=None, description="Null: not included, or the manifest has no prices.")


class CallReport(Model):
    """The body of the request."""

    type: Literal["call.ended"] = "call.ended"
    timestamp: datetime = Field(description="When the call ended.")
    data: ReportedCall
