"""The rate limits."""

import pytest

from gateway.api.limits import RateLimit, create_limits
from gateway.errors import ErrorReason, RequestError


def test_bucket_refills_up_to_its_size() -> None:
    limit = RateLimit(60, "too many")
    assert [limit.take_token("a", 0.0) for _ in range(60)] == [0.0] * 60
    assert limit.take_token("a", 0.0) == pytest.approx(1.0)
    assert limit.take_token("a", 1.0) == 0.0
    assert [limit.take_token("a", 1000.0) for _ in range(60)] == [0.0] * 60
    assert limit.take_token("a", 1000.0) > 0


def test_rate_limit_tracks_a_bounded_number_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.limits.MAX_TRACKED", 3)
    limit = RateLimit(1, "too many")
    for client in "abcd":
        limit.take_token(client, 0.0)
    assert limit.take_token("d", 0.0) > 0
    assert limit.take_token("a", 0.0) == 0.0, "the least recently used was evicted"


@pytest.mark.parametrize(
    ("name", "subject"), [("address", "This address"), ("key", "This key"), ("agent", "calls to this agent")]
)
def test_rejection_says_which_limit_is_reached_and_when_to_retry(name: str, subject: str) -> None:
    limit: RateLimit = getattr(create_limits(2, 2, 2), name)
    limit.count("a")
    limit.count("a")
    limit.count("b")
    with pytest.raises(RequestError, match=subject) as rejected:
        limit.count("a")
    error = rejected.value
    assert (error.status, error.reason) == (429, ErrorReason.RATE_LIMITED)
    assert 1 <= error.retry_after_seconds <= 31
    assert int(error.headers()["Retry-After"]) == error.retry_after_seconds
