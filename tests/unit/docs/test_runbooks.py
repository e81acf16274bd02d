"""Each alert of the chart has a runbook, and each runbook an alert."""

import re
from typing import Any

import pytest
import yaml

from agentspec import crd
from devkit.paths import REPOSITORY

CHART = REPOSITORY / "charts" / "avatar-agent"
FOLDER = REPOSITORY / "docs" / "runbooks"
RUNBOOKS = {page.stem: page.read_text() for page in FOLDER.glob("*.md") if page.name != "README.md"}
GROUPS = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
PARTS = ["What it means", "What callers notice", "How to look", "What to do"]


def test_alerts_and_runbooks_are_the_same() -> None:
    assert len(ALERTS) == 15
    assert RUNBOOKS.keys() == ALERTS.keys()


def test_index_lists_every_runbook_with_its_severity() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((name, name, rule["labels"]["severity"]) for name, rule in ALERTS.items())


@pytest.mark.parametrize("name", sorted(RUNBOOKS))
def test_runbook_has_every_part(name: str) -> None:
    text = RUNBOOKS[name]
    assert re.findall(r"^# (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE) == [name]
    assert f"Severity: {ALERTS[name]['labels']['severity']}.\n" in text
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert part.strip(), "no part is empty"


def spec_fields(schema: dict[str, Any], prefix: str) -> set[str]:
    """Return the paths of all fields of a schema."""
    found = set()
    for name, child in schema.get("properties", {}).items():
        found |= {f"{prefix}.{name}"} | spec_fields(child, f"{prefix}.{name}")
    return found


def value_paths(values: object, prefix: str = "") -> set[str]:
    """Return the paths of all values of the chart."""
    found = set()
    if isinstance(values, dict):
        for name, child in values.items():
            found |= {f"{prefix}{name}"} | value_paths(child, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize("name", sorted(RUNBOOKS))
def test_runbook_names_existing_fields_and_values(name: str) -> None:
    schema = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    values = value_paths(yaml.safe_load((CHART / "values.yaml").read_text()))
    thresholds = {path.rsplit(".", 1)[1] for path in values if re.match(r"monitoring\.rules\.\w+\.", path)}
    for span in re.findall(r"`([\w.]+)(?::[^`]*)?`", RUNBOOKS[name]):
        first = span.partition(".")[0]
        if first == "spec":
            assert span in spec_fields(schema, "spec")
        elif first in ("controller", "gateway", "monitoring") and "." in span:
            assert span in values
        elif re.search(r"^[a-z]\w*(?:Minutes|Seconds|Percent|Errors|Calls|Replies)$", span):
            assert span in thresholds
