"""The pages on metrics, logs and troubleshooting quote what the code has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry

import worker.call.metrics  # noqa: F401 - registers the series of call processes
from controller import metrics as controller_metrics
from devkit.paths import REPOSITORY
from gateway import metrics as gateway_metrics
from process.metrics import SampledGauge
from worker.server import metrics as worker_metrics

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


def leaders_registry() -> CollectorRegistry:
    """The metrics of a controller that is the leader."""
    metrics = controller_metrics.Metrics()
    metrics.start_leading(lambda: 0, list, list)
    return metrics.registry


REGISTRIES = {
    "Controller": [leaders_registry()],
    "Gateway": [gateway_metrics.Metrics().registry],
    "Worker": [worker_metrics._registry, REGISTRY],
}


@pytest.mark.parametrize("component", sorted(REGISTRIES))
def test_page_lists_exactly_the_series_of_each_process(component: str) -> None:
    prefix = f"avatar_agent_{component.lower()}_"
    exported = {
        family.name.removeprefix(prefix) + ("_total" if family.type == "counter" else "")
        for registry in REGISTRIES[component]
        for family in registry.collect()
        if family.name.startswith(prefix)
    }
    shared = {name for name in first_cells(section(OBSERVE, "Metrics")) if name.startswith("event_loop")}
    assert first_cells(section(OBSERVE, component)) | shared == exported


def test_page_lists_the_labels_of_each_series() -> None:
    """Labels in the page's second column, where `agent` without code stands for both labels of an AvatarAgent."""
    checked = 0
    for component, registries in REGISTRIES.items():
        rows = [row.split("|") for row in section(OBSERVE, component).splitlines() if row.startswith("| `")]
        documented = {
            name.removesuffix("_total"): set(re.findall(r"`([^`]+)`", row[2]))
            | ({"agent_namespace", "agent"} if row[2].strip().startswith("agent") else set())
            for row in rows
            for name in re.findall(r"`([^`]+)`", row[1])
        }
        collectors = [collector for registry in registries for collector in registry._collector_to_names]
        for collector in collectors:
            if isinstance(collector, SampledGauge):
                full_name, labels = collector.name, set(collector.labels)
            else:
                full_name, labels = getattr(collector, "_name", ""), set(getattr(collector, "_labelnames", ()))
            name = full_name.removeprefix(f"avatar_agent_{component.lower()}_")
            if name in documented and labels:
                assert labels == documented[name], name
                checked += 1
    assert checked > 30
