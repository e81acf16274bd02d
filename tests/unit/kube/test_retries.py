"""Which requests are repeated, and when."""

import pytest

from kube.retries import MAX_RETRIES, retry_delay


@pytest.mark.parametrize(
    ("method", "status", "retry_after", "repeated", "expected"),
    [
        pytest.param("GET", 500, "", 0, 0.2, id="a server's fault is gone soon"),
        pytest.param("PATCH", 503, "", 2, 0.8, id="or a little later"),
        pytest.param("GET", 500, "", MAX_RETRIES, None, id="but not for ever"),
        pytest.param("POST", 500, "", 0, None, id="what may have been done is not done twice"),
        pytest.param("POST", 429, "1", 0, 1.0, id="what was refused was not done"),
        pytest.param("GET", 429, "", 0, 0.2, id="too many requests, without a word on when to come again"),
        pytest.param("GET", 429, "Wed, 21 Oct 2026 07:28:00 GMT", 0, 0.2, id="or with one that Kubernetes never says"),
        pytest.param("GET", 429, "30", 0, None, id="whoever has to wait for long does so elsewhere"),
        pytest.param("PATCH", 409, "", 0, None, id="a conflict needs a fresh look first"),
        pytest.param("GET", 404, "", 0, None, id="an answer is an answer"),
    ],
)
def test_a_request_is_repeated(
    method: str, status: int, retry_after: str, repeated: int, expected: float | None
) -> None:
    assert retry_delay(method, status, retry_after, repeated) == expected
