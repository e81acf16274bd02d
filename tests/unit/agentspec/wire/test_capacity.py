"""Slots as workers report them."""

import pytest

from agentspec import WorkerStatus


@pytest.mark.parametrize(
    ("status", "free"),
    [
        ({"registered": True, "draining": False, "slots": 4, "calls": 1}, 3),
        ({"registered": True, "draining": False, "slots": 1, "calls": 2}, 0),
        ({"registered": False, "draining": False, "slots": 4, "calls": 0}, 0),
        ({"registered": True, "draining": True, "slots": 4, "calls": 1}, 0),
    ],
    ids=["slots minus calls", "never negative", "unregistered", "draining"],
)
def test_free_slots_are_those_that_a_dispatch_could_take(status: dict[str, int], free: int) -> None:
    assert WorkerStatus.model_validate({"agentName": "a", **status}).free_slots == free
