"""The check of the order in a line of callers."""

import pytest

from tests.soak.short_calls import ShortCall, overtaken


def call(agent: str, requested: float, connected: float, joined: float) -> ShortCall:
    return ShortCall(agent, requested, opened=connected, connected=connected, joined=joined)


FIRST = call("a", 1, 2, 10)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        pytest.param(call("a", 3, 4, 11), False, id="the line is kept"),
        pytest.param(call("a", 3, 4, 9), True, id="the second is joined first"),
        pytest.param(call("b", 3, 4, 9), False, id="calls of two agents"),
        pytest.param(call("a", 1.5, 4, 9), False, id="both are requested at one time"),
        pytest.param(call("a", 3, 4, 0), False, id="the second is not joined"),
    ],
)
def test_call_that_is_joined_before_an_earlier_one_is_found(other: ShortCall, found: bool) -> None:
    assert bool(overtaken([FIRST, other])) is found


def test_call_that_is_never_joined_is_overtaken() -> None:
    lost = call("a", 1, 2, 0)
    assert overtaken([lost, call("a", 3, 4, 9)])
