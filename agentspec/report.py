"""What was said: the report of each call to an HTTP endpoint, and traces of its session. Both are off by default."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from agentspec.fields import SecretKeyRef, as_text, http_url, matches, provider_word, rules, text, tool_url
from agentspec.model import Model
from agentspec.tools import SecretHeader

_PRICE: Final = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"

Price = Annotated[
    str,
    BeforeValidator(as_text),
    Field(max_length=20, pattern=_PRICE),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 20,
            **rules(
                (
                    matches(_PRICE, "string(self)"),
                    "set a price as a number, a fraction in quotes: 15 or '0.15'",
                )
            ),
        }
    ),
]
"""An amount of money. A text where it has a fraction: Kubernetes' API conventions exclude floating-point numbers."""


class ReportPart(StrEnum):
    """A part of a call's report."""

    TRANSCRIPT = "Transcript"
    """What caller and agent said, and the names of the tools that the agent used."""
    USAGE = "Usage"
    """Tokens, characters and seconds of audio by model, and the cost."""
    LATENCIES = "Latencies"
    """How long the caller waited in each turn, and for which stage."""


class ModelPrice(Model):
    """What a provider charges for one model."""

    model: Annotated[str, provider_word("model")] = Field(description="Name of the model, as the provider reports it.")
    per_million_input_tokens: Price = Field(default="0", description="Price of 1,000,000 input tokens.")
    per_million_output_tokens: Price = Field(default="0", description="Price of 1,000,000 output tokens.")
    per_million_characters: Price = Field(default="0", description="Price of 1,000,000 synthesised characters.")
    per_audio_hour: Price = Field(default="0", description="Price of one hour of audio, transcribed or synthesised.")


class PriceTable(Model):
    """What the models of an agent cost."""

    currency: Annotated[str, text(r"^[A-Z]{3}$", "set a currency of three letters, such as USD", max_length=3)] = Field(
        description="Currency of all prices (ISO 4217), such as `USD`."
    )
    models: list[ModelPrice] = Field(
        min_length=1,
        max_length=32,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["model"]},
        description="Prices by model. A report names the models without a price.",
    )


class ReportSpec(Model):
    """The report of each call."""

    url: Annotated[str, tool_url()] = Field(
        description="Address that receives each report, by `POST` and signed as in Standard Webhooks."
    )
    secret_key_ref: SecretKeyRef = Field(
        description="Secret with the signing key, as `{name: NAME, key: KEY}`: `whsec_` and 24 to 64 random bytes in "
        "Base64."
    )
    include: list[ReportPart] = Field(
        min_length=1,
        max_length=3,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="What a report contains besides the call, its times and its outcome.",
    )
    prices: PriceTable | None = Field(default=None, description="Prices, from which the cost of a call is computed.")


class TracingSpec(Model):
    """Traces of each call's session."""

    otlp_endpoint: Annotated[str, http_url("http://otel-collector:4318")] = Field(
        description="Base URL of an OTLP/HTTP receiver, to which `/v1/traces` is added."
    )
    headers: Annotated[list[SecretHeader], Field(max_length=4)] = Field(
        default_factory=list, description="Headers of the requests, whose values are in Secrets."
    )
    include_text: bool = Field(
        default=False,
        description="Traces contain what was said, the instructions, and the arguments and results of tools.",
    )
