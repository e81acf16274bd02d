"""Every error of the gateway and every end of a call is in the guide to troubles."""

import pytest

from devkit.paths import REPOSITORY
from gateway.calls import CallReason
from gateway.errors import ErrorReason


def causes(*beginnings: str) -> list[str]:
    """First cells of the guide's rows that begin like that."""
    rows = (REPOSITORY / "docs/guides/troubles.md").read_text().splitlines()
    cells = [row.split("|")[1].strip() for row in rows if row.startswith("|")]
    return [cell for cell in cells if cell.startswith(beginnings)]


@pytest.mark.parametrize("reason", list(ErrorReason), ids=lambda reason: reason.value)
def test_the_guide_names_the_error(reason: ErrorReason) -> None:
    assert any(f"`{reason.value}`" in cause for cause in causes("4", "5"))


@pytest.mark.parametrize("reason", [reason for reason in CallReason if reason.value], ids=lambda reason: reason.value)
def test_the_guide_names_how_the_call_ended(reason: CallReason) -> None:
    assert any(f"`{reason.value}`" in cause for cause in causes("call "))
