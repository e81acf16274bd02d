"""Cost of a call: exact decimals, by model."""

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentspec.report import PriceTable
from agentspec.wire.callreport import ModelUsage
from worker.call.cost import cost_of

PRICES: dict[str, Any] = {
    "currency": "USD",
    "models": [
        {"model": "gpt-4o-mini", "perMillionInputTokens": "0.15", "perMillionOutputTokens": "0.6"},
        {"model": "tts-1", "perMillionCharacters": 15},
        {"model": "whisper-1", "perAudioHour": "0.36"},
    ],
}


def usage(stage: str, model: str, **amounts: float) -> ModelUsage:
    return ModelUsage.model_validate({"stage": stage, "provider": "p", "model": model, **amounts})


def test_cost_is_usage_times_price() -> None:
    used = [
        usage("llm", "gpt-4o-mini", inputTokens=12_345, outputTokens=678),
        usage("tts", "tts-1", characters=1_000, audioSeconds=60.0),
        usage("stt", "whisper-1", audioSeconds=90.5),
    ]
    cost = cost_of(used, PriceTable.model_validate(PRICES))
    assert cost.models == {
        "gpt-4o-mini": Decimal("0.002259"),  # 12,345 * 0.15 / 1e6 + 678 * 0.6 / 1e6 = 0.00225855
        "tts-1": Decimal("0.015000"),
        "whisper-1": Decimal("0.009050"),
    }
    assert (cost.currency, cost.total, cost.models_without_price) == ("USD", Decimal("0.026309"), [])


def test_model_without_a_price_is_named() -> None:
    used = [usage("llm", "gpt-5", inputTokens=1_000), usage("tts", "tts-1", characters=10)]
    cost = cost_of(used, PriceTable.model_validate(PRICES))
    assert (cost.total, cost.models_without_price) == (Decimal("0.000150"), ["gpt-5"])
    assert cost_of([], PriceTable.model_validate(PRICES)).total == 0


@given(st.lists(st.integers(0, 10**9), max_size=5))
def test_cost_of_parts_adds_up(tokens: list[int]) -> None:
    prices = PriceTable.model_validate(PRICES)
    parts = cost_of([usage("llm", "gpt-4o-mini", inputTokens=part) for part in tokens], prices)
    assert parts.total == cost_of([usage("llm", "gpt-4o-mini", inputTokens=sum(tokens))], prices).total
