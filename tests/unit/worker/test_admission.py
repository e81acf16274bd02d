"""Which jobs a worker takes."""

import pytest

from worker.server.admission import Declined, decide


@pytest.mark.parametrize(
    ("room", "pattern", "calls", "draining", "declined"),
    [
        ("ornina-1", "^ornina-", 0, False, None),
        ("ornina-1", "^ornina-", 3, False, None),
        ("ornina-1", ".*", 0, False, None),
        ("my-ornina-1", "ornina", 0, False, None),
        ("my-ornina-1", "^ornina-", 0, False, Declined.ROOM_NAME),
        ("ornina-1", "^ornina-", 4, False, Declined.FULL),
        ("ornina-1", "^ornina-", 0, True, Declined.DRAINING),
        ("other", "^ornina-", 4, True, Declined.ROOM_NAME),
    ],
    ids=[
        "matches",
        "last slot",
        "any room",
        "pattern matches inside the name",
        "another room",
        "full",
        "draining",
        "room name is reported first, it will not change",
    ],
)
def test_job_is_accepted_or_declined_with_a_reason(
    room: str, pattern: str, calls: int, draining: bool, declined: Declined | None
) -> None:
    decision = decide(room, pattern, calls=calls, slots=4, draining=draining)
    assert decision.declined is declined
    assert bool(decision.reason) == (declined is not None)
