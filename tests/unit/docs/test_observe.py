"""The pages on metrics, logs and troubleshooting quote what the code has."""

import ast
import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.metrics import Metrics
from devkit.paths import REPOSITORY

PACKAGES = ("agentspec", "controller", "gateway", "kube", "process", "worker")
OBSERVE = (REPOSITORY / "docs/reference/observe.md").read_text()
TROUBLES = (REPOSITORY / "docs/guides/troubles.md").read_text()
FORMER_FIELDS = {"call", "problem"}


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"^#+ ", page.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> set[str]:
    """The code spans in the first column of the tables of a text."""
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("|")]
    return {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def logged_fields() -> set[str]:
    """The names of all fields that a log call passes in a dictionary of its own."""
    return {
        key.value
        for _, tree in sources()
        for call in ast.walk(tree)
        if isinstance(call, ast.keyword) and call.arg == "extra"
        for node in ast.walk(call.value)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def texts(package: str) -> set[str]:
    """All constant texts in the code of a package."""
    return {
        node.value
        for path, tree in sources()
        if path.is_relative_to(REPOSITORY / package)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_logged_field_is_documented() -> None:
    documented = first_cells(section(OBSERVE, "Log fields"))
    assert "agent" in logged_fields(), "the search finds fields"
    assert logged_fields() - documented == set()
    assert documented & FORMER_FIELDS == set()


@pytest.mark.parametrize("message", sorted(first_cells(section(TROUBLES, "Follow a call in the worker's log"))))
def test_quoted_log_message_exists(message: str) -> None:
    assert message in texts("worker")


@pytest.mark.parametrize("name", sorted(first_cells(section(OBSERVE, "Metrics")) - {"agents{condition,status,reason}"}))
def test_documented_series_exists(name: str) -> None:
    family = name.removesuffix("{outcome}").removesuffix("_total")
    families = [family.name for family in Metrics().registry.collect()]
    assert fnmatch.filter(families, f"avatar_agent_controller_{family}")
