"""The troubleshooting page explains every reason that needs an action."""

import pytest

from agentspec import ConditionType, Reason
from agentspec.conditions import REASONS
from devkit.paths import REPOSITORY

FINE = {
    Reason.ALL_CHECKS_PASSED,
    Reason.CREDENTIALS_ACCEPTED,
    Reason.NAME_UNIQUE,
    Reason.KNOWLEDGE_LOADED,
    Reason.NO_KNOWLEDGE_DECLARED,
    Reason.NO_AVATAR_DECLARED,
    Reason.AVATAR_SEATS_FREE,
    Reason.PROVIDERS_SUCCEEDED,
    Reason.REGISTERED,
    Reason.NO_WORKERS_NEEDED,
    Reason.ROLLED_OUT,
    Reason.WITHIN_LIMITS,
}


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        pytest.param(condition, reason, id=f"{condition.value} {reason.value}")
        for condition, reasons in REASONS.items()
        for reason in reasons
        if reason not in FINE
    ],
)
def test_page_explains_reason(condition: ConditionType, reason: Reason) -> None:
    rows = (REPOSITORY / "docs/guides/troubles.md").read_text().splitlines()
    first_cells = [row.split("|")[1] for row in rows if row.startswith("|")]
    assert any(f"`{reason.value}`" in cell for cell in first_cells)
