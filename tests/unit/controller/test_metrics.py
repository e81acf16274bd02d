"""The metrics of AvatarAgents and of the controller."""

import time
from typing import Any

import pytest
from prometheus_client import generate_latest

from agentspec import CallCounts, SlotCounts, WorkerCounts
from controller.metrics import Metrics
from controller.observation import Key
from controller.policy.plan import Counts
from controller.policy.scale import Decision, ScaleReason
from controller.policy.snapshot import ObservedAgent
from tests.unit.controller.builders import KEY, OTHER, spec

COUNTS = Counts(WorkerCounts(desired=2), SlotCounts(total=8, free=7), CallCounts(active=1, pending=3))


def values_of(metrics: Metrics, key: Key) -> dict[str, float]:
    """The values of an agent's series, by name."""
    samples = [sample for metric in metrics.registry.collect() for sample in metric.samples]
    own = {"agent_namespace": key.namespace, "agent": key.name}
    return {sample.name: sample.value for sample in samples if own.items() <= sample.labels.items()}


def test_agent_labels_do_not_clash_with_prometheus_labels() -> None:
    metrics = Metrics()
    metrics.set_agent(KEY, COUNTS, ready=True, limited=False)
    metrics.record_scaling(KEY, Decision(2, ScaleReason.MORE_NEEDED, 2, ()))
    values = values_of(metrics, KEY)
    assert values["avatar_agent_controller_slots"] == 8
    assert values["avatar_agent_controller_calls_pending"] == 3
    assert values["avatar_agent_controller_scale_decisions_total"] == 1
    labels = {name for metric in metrics.registry.collect() for sample in metric.samples for name in sample.labels}
    assert not labels & {"namespace", "pod", "job", "instance", "name"}


def test_deleted_agent_has_no_series() -> None:
    metrics = Metrics()
    for key in (KEY, OTHER):
        metrics.set_agent(key, COUNTS, ready=True, limited=False)
        metrics.record_scaling(key, Decision(2, ScaleReason.MORE_NEEDED, 2, ()))
    metrics.forget(KEY)
    assert values_of(metrics, KEY) == {}
    assert values_of(metrics, OTHER)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"avatar_agent_controller_{name}", labels)


def agent(name: str, *conditions: tuple[str, str, str]) -> ObservedAgent:
    found = [dict(zip(("type", "status", "reason"), condition, strict=True)) for condition in conditions]
    status: dict[str, Any] = {"conditions": found} if conditions else {}
    return ObservedAgent(Key("shop", name), name, 1, 1, "2026-01-01T00:00:00Z", False, spec(), status)


def test_agents_are_counted_by_condition_at_each_scrape() -> None:
    metrics = Metrics()
    agents = [agent("new")]
    metrics.start_leading(lambda: 0, lambda: agents)
    labels = {"condition": "Ready", "status": "False", "reason": "NameTaken"}
    assert sample(metrics, "agents", **labels) is None
    agents += [agent(name, ("Ready", "False", "NameTaken"), ("Progressing", "False", "RolledOut")) for name in "ab"]
    agents += [agent("c", ("Ready", "True", "AllChecksPassed"))]
    assert sample(metrics, "agents", **labels) == 2
    assert sample(metrics, "agents", condition="Ready", status="True", reason="AllChecksPassed") == 1
    assert sample(metrics, "agents", condition="Progressing", status="False", reason="RolledOut") == 2
    agents.clear()
    assert sample(metrics, "agents", **labels) is None, "no agent has this condition any more"


def test_leader_and_queue_length_are_reported() -> None:
    metrics = Metrics()
    assert (sample(metrics, "leading"), sample(metrics, "queue_length")) == (0, 0)
    waiting = [KEY, OTHER]
    metrics.start_leading(lambda: len(waiting), list)
    assert (sample(metrics, "leading"), sample(metrics, "queue_length")) == (1, 2)
    waiting.clear()
    assert sample(metrics, "queue_length") == 0


@pytest.mark.parametrize("outcome", ["refused", "error"])
def test_only_successful_reconciles_set_the_last_success(outcome: str) -> None:
    metrics = Metrics()
    metrics.record_reconcile(outcome, 0.2)
    assert sample(metrics, "last_success_timestamp_seconds") == 0
    before = time.time()
    metrics.record_reconcile("success", 0.02)
    last = sample(metrics, "last_success_timestamp_seconds")
    assert last is not None
    assert before <= last <= time.time()
    assert sample(metrics, "reconciles_total", outcome=outcome) == 1
    assert sample(metrics, "reconciles_total", outcome="success") == 1
    assert sample(metrics, "reconcile_seconds_count") == 2
    assert sample(metrics, "reconcile_seconds_bucket", le="0.025") == 1


def test_help_of_scale_decisions_lists_every_reason() -> None:
    text = generate_latest(Metrics().registry).decode()
    (help_line,) = [
        line for line in text.splitlines() if line.startswith("# HELP avatar_agent_controller_scale_decisions")
    ]
    assert help_line.endswith("by reason: Steady, MoreNeeded, FewerNeeded, DelayRunning, WorkersBusy, Stopped.")
