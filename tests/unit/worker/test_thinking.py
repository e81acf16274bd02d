"""The limits of a reply by the model's name."""

import pytest

from worker.call.thinking import SPOKEN_TOKENS, THINKING_TOKENS, ReplyLimits, limits

ROOM = SPOKEN_TOKENS + THINKING_TOKENS


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("gpt-5-mini", "minimal"),
        ("gpt-5-mini-2025-08-07", "minimal"),
        ("openai/gpt-5-mini", "minimal"),
        ("gpt-5.1", "none"),
        ("o4-mini", "low"),
        ("o3-2025-04-16", "low"),
        ("o1-mini", ""),
        ("qwen3-8b", ""),
        ("my-deployment", ""),
    ],
)
def test_model_that_may_think_has_room_for_it(model: str, effort: str) -> None:
    assert limits(model) == ReplyLimits(ROOM, effort)


@pytest.mark.parametrize(
    "model", ["gpt-4o-mini", "gpt-4o-2024-11-20", "openai/gpt-4.1", "GPT-4o", "gpt-3.5-turbo", "chatgpt-4o-latest"]
)
def test_model_that_never_thinks_is_limited_to_what_is_spoken(model: str) -> None:
    assert limits(model) == ReplyLimits(SPOKEN_TOKENS, "")
