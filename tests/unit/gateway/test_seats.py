"""Avatar seats: never more than the limit, and no free seat is withheld for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.calls.seats import Seat, free_seats


@pytest.mark.parametrize(
    ("reported", "unreported", "free", "why"),
    [
        (None, [], None, "no limit"),
        (None, [Seat(1, 5.0)], None, "limit removed"),
        (3, [], 3, "every seat is reported"),
        (3, [Seat(3, 5.0)], 2, "one seat is not reported yet"),
        (2, [Seat(3, 5.0)], 2, "the reported seat counts once"),
        (3, [Seat(2, 5.2), Seat(3, 5.0)], 1, "two unreported seats"),
        (2, [Seat(2, 5.2), Seat(3, 5.0)], 1, "one of two is reported"),
        (1, [Seat(2, 5.2), Seat(3, 5.0)], 1, "both are reported"),
        (0, [Seat(3, 5.0)], 0, "others took the rest"),
        (3, [Seat(1, 5.0)], 0, "seats became free meanwhile, and count after the lag"),
        (2, [Seat(2, 5.0), Seat(1, 5.0)], 0, "assigned at the same time"),
    ],
)
def test_free_seats_are_the_lower_of_two_limits(
    reported: int | None, unreported: list[Seat], free: int | None, why: str
) -> None:
    assert free_seats(reported, unreported) == free, why


@given(
    total=st.integers(1, 6),
    gaps=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20),
    lags=st.lists(st.floats(0.0, 1.9), min_size=20, max_size=20),
)
def test_calls_close_together_get_every_seat_and_no_more(total: int, gaps: list[float], lags: list[float]) -> None:
    """The controller reports each seat after some lag, and the gateway counts it as in flight for two seconds."""
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
