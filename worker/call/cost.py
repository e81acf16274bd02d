"""The cost of a call: usage times prices, in exact decimals."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from agentspec.report import ModelPrice, PriceTable
from agentspec.wire.callreport import CallCost, ModelUsage

_MILLION: Final = Decimal(1_000_000)
_HOUR_SECONDS: Final = Decimal(3600)
_STEP: Final = Decimal("0.000001")


def cost_of(usage: Sequence[ModelUsage], prices: PriceTable) -> CallCost:
    """Return what the usage costs, by model, and which models have no price."""
    known = {price.model: price for price in prices.models}
    models: dict[str, Decimal] = {}
    for used in usage:
        if used.model in known:
            models[used.model] = models.get(used.model, Decimal(0)) + _cost(used, known[used.model])
    return CallCost(
        currency=prices.currency,
        total=sum(models.values(), Decimal(0)).quantize(_STEP),
        models={model: cost.quantize(_STEP) for model, cost in models.items()},
        models_without_price=sorted({used.model for used in usage} - known.keys()),
    )


def _cost(used: ModelUsage, price: ModelPrice) -> Decimal:
    return (
        used.input_tokens * Decimal(price.per_million_input_tokens) / _MILLION
        + used.output_tokens * Decimal(price.per_million_output_tokens) / _MILLION
        + used.characters * Decimal(price.per_million_characters) / _MILLION
        + Decimal(str(used.audio_seconds)) * Decimal(price.per_audio_hour) / _HOUR_SECONDS
    )
