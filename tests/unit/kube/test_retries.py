"""Which requests are retried, and after how long."""

import pytest

from kube.retries import MAX_RETRIES, retry_delay


@pytest.mark.parametrize(
    ("method", "status", "retry_after", "retries", "expected"),
    [
        pytest.param("GET", 500, "", 0, 0.2, id="server error"),
        pytest.param("PATCH", 503, "", 2, 0.8, id="later retries wait longer"),
        pytest.param("GET", 500, "", MAX_RETRIES, None, id="retries are exhausted"),
        pytest.param("POST", 500, "", 0, None, id="a failed POST may have been carried out"),
        pytest.param("POST", 429, "1", 0, 1.0, id="a rejected POST was not carried out"),
        pytest.param("GET", 429, "", 0, 0.2, id="too many requests without Retry-After"),
        pytest.param("GET", 429, "Wed, 21 Oct 2026 07:28:00 GMT", 0, 0.2, id="Retry-After is a date"),
        pytest.param("GET", 429, "30", 0, None, id="Retry-After is too long"),
        pytest.param("PATCH", 409, "", 0, None, id="conflict"),
        pytest.param("GET", 404, "", 0, None, id="not found"),
    ],
)
def test_delay_depends_on_method_status_and_attempt(
    method: str, status: int, retry_after: str, retries: int, expected: float | None
) -> None:
    assert retry_delay(method, status, retry_after, retries) == expected
