"""Avatar seats: never more than there are, and none left over for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.seats import Seat, free_seats


@pytest.mark.parametrize(
    ("reported", "unseen", "free", "why"),
    [
        (None, [], None, "nobody counts"),
        (None, [Seat(1, 5.0)], None, "nobody counts any more"),
        (3, [], 3, "the controller knows of every seat"),
        (3, [Seat(3, 5.0)], 2, "it may not know of the one just handed out"),
        (2, [Seat(3, 5.0)], 2, "it knows of it by now: it counts once"),
        (3, [Seat(2, 5.2), Seat(3, 5.0)], 1, "two close together"),
        (2, [Seat(2, 5.2), Seat(3, 5.0)], 1, "of two it knows of one"),
        (1, [Seat(2, 5.2), Seat(3, 5.0)], 1, "of two it knows of both"),
        (0, [Seat(3, 5.0)], 0, "others have taken the rest"),
        (3, [Seat(1, 5.0)], 0, "seats became free meanwhile: it stays careful for a moment"),
        (2, [Seat(2, 5.0), Seat(1, 5.0)], 0, "handed out in the same moment"),
    ],
)
def test_free_seats(reported: int | None, unseen: list[Seat], free: int | None, why: str) -> None:
    assert free_seats(reported, unseen) == free, why


@given(
    total=st.integers(1, 6),
    gaps=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20),
    lags=st.lists(st.floats(0.0, 1.9), min_size=20, max_size=20),
)
def test_calls_that_come_close_together_get_every_seat_and_not_one_more(
    total: int, gaps: list[float], lags: list[float]
) -> None:
    """Each seat becomes known to the controller after some lag, and counts as in flight for two seconds."""
    now, seats = 0.0, list[tuple[Seat, float]]()
    for gap, lag in zip(gaps, lags, strict=False):
        now += gap
        reported = total - sum(known_at <= now for _, known_at in seats)
        free = free_seats(reported, [seat for seat, _ in seats if now - seat.assigned_at < 2.0])
        assert free is not None
        assert free == total - len(seats)
        if free > 0:
            seats.append((Seat(free, now), now + lag))
    assert len(seats) == min(total, len(gaps))
