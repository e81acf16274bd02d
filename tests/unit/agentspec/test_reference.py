"""The reference page and the schema of reports: complete, readable and up to date."""

import json

from agentspec import ConditionType, Reason, reference
from agentspec.conditions import REASONS


def test_committed_page_is_up_to_date() -> None:
    assert reference.PAGE_PATH.read_text() == reference.render(), "stale: run `make generate` and commit the result"


def test_committed_schema_of_reports_is_up_to_date() -> None:
    assert reference.REPORT_PATH.read_text() == reference.report_schema(), "stale: run `make generate` and commit it"


def test_schema_of_reports_allows_fields_of_later_releases() -> None:
    schema = json.loads(reference.report_schema())
    assert "additionalProperties" not in json.dumps([schema, *schema["$defs"].values()]).replace(
        json.dumps(schema["$defs"]["CallCost"]["properties"]["models"]), ""
    )
    assert schema["$defs"]["ReportedCall"]["properties"]["version"]["const"] == 1


def test_every_condition_and_reason_has_a_meaning() -> None:
    assert set(reference.meanings(ConditionType)) == {kind.value for kind in ConditionType}
    assert set(reference.meanings(Reason)) == {reason.value for reason in Reason}


def test_every_reason_belongs_to_a_condition() -> None:
    assert {reason for reasons in REASONS.values() for reason in reasons} == set(Reason)
    assert set(REASONS) == set(ConditionType)


def test_field_is_shown_with_type_default_bounds_and_unit() -> None:
    page = reference.render()
    assert "| `maxCallMinutes` | integer | `60` | 1 to 720 minutes | " in page
    assert "| `callsPerWorker` | integer | `4` | 1 to 100 calls | " in page
    assert "| `resources.requests` | map of quantities | `cpu: 250m`, `memory: 512Mi` | at most 8 keys" in page
    assert "| `credentialsSecretRef` | object | required | " in page


def test_description_does_not_repeat_the_columns() -> None:
    for line in reference.render().splitlines():
        if line.startswith("| `"):
            assert "Default `" not in line.rsplit(" | ", 1)[1], line


def test_messages_of_rules_are_in_the_section_of_their_fields() -> None:
    scaling = reference.render().split("### spec.scaling")[1].split("## status")[0]
    assert "- minWorkers must not exceed maxWorkers: lower minWorkers or raise maxWorkers" in scaling


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    width = 0
    for line in reference.render().splitlines():
        cells = line.replace("\\|", "").count("|") if line.startswith("|") else 0
        assert not (cells and width) or cells == width, line
        width = cells
