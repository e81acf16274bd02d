"""The troubleshooting page explains every error of the gateway and every way in which a call ends."""

import pytest

from devkit.paths import REPOSITORY
from gateway.calls.call import CallReason
from gateway.errors import ErrorReason


def first_cells(*beginnings: str) -> list[str]:
    """Return the first cells of the page's rows that begin with one of these texts."""
    rows = (REPOSITORY / "docs/guides/troubles.md").read_text().splitlines()
    cells = [row.split("|")[1].strip() for row in rows if row.startswith("|")]
    return [cell for cell in cells if cell.startswith(beginnings)]


@pytest.mark.parametrize("reason", list(ErrorReason), ids=lambda reason: reason.value)
def test_page_explains_error(reason: ErrorReason) -> None:
    assert any(f"`{reason.value}`" in cell for cell in first_cells("4", "5"))


@pytest.mark.parametrize("reason", [reason for reason in CallReason if reason.value], ids=lambda reason: reason.value)
def test_page_explains_call_reason(reason: CallReason) -> None:
    assert any(f"`{reason.value}`" in cell for cell in first_cells("call "))
