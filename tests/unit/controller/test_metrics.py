"""The series of one AvatarAgent, how they are labelled, and that they go with it; and those of the controller."""

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
from tests.unit.controller.builders import spec

KEY, OTHER = Key("shop", "ava"), Key("shop", "eva")
COUNTS = Counts(WorkerCounts(desired=2), SlotCounts(total=8, free=7), CallCounts(active=1, pending=3))


def told(metrics: Metrics, key: Key) -> dict[str, float]:
    """Values of an agent's series, by name."""
    samples = [sample for metric in metrics.registry.collect() for sample in metric.samples]
    own = {"agent_namespace": key.namespace, "agent": key.name}
    return {sample.name: sample.value for sample in samples if own.items() <= sample.labels.items()}


def test_series_are_labelled_by_the_agent_and_never_by_a_label_of_prometheus() -> None:
    metrics = Metrics()
    metrics.set_agent(KEY, COUNTS, ready=True, limited=False)
    metrics.record_scaling(KEY, Decision(2, ScaleReason.MORE_NEEDED, 2, ()))
    values = told(metrics, KEY)
    assert values["avatar_agent_controller_slots"] == 8
    assert values["avatar_agent_controller_calls_pending"] == 3
    assert values["avatar_agent_controller_scale_decisions_total"] == 1
    labels = {name for metric in metrics.registry.collect() for sample in metric.samples for name in sample.labels}
    assert not labels & {"namespace", "pod", "job", "instance", "name"}


def test_an_agent_that_is_gone_has_no_series() -> None:
    metrics = Metrics()
    for key in (KEY, OTHER):
        metrics.set_agent(key, COUNTS, ready=True, limited=False)
        metrics.record_scaling(key, Decision(2, ScaleReason.MORE_NEEDED, 2, ()))
    metrics.forget(KEY)
    assert told(metrics, KEY) == {}
    assert told(metrics, OTHER)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"avatar_agent_controller_{name}", labels)


def agent(name: str, *conditions: tuple[str, str, str]) -> ObservedAgent:
    found = [dict(zip(("type", "status", "reason"), condition, strict=True)) for condition in conditions]
    status: dict[str, Any] = {"conditions": found} if conditions else {}
    return ObservedAgent(Key("shop", name), name, 1, 1, "2026-01-01T00:00:00Z", False, spec(), status)


def test_agents_are_counted_by_condition_when_asked() -> None:
    metrics = Metrics()
    agents = [agent("new")]
    metrics.start_leading(lambda: 0, lambda: agents)
    asked = {"condition": "Ready", "status": "False", "reason": "NameTaken"}
    assert sample(metrics, "agents", **asked) is None
    agents += [agent(name, ("Ready", "False", "NameTaken"), ("Progressing", "False", "RolledOut")) for name in "ab"]
    agents += [agent("c", ("Ready", "True", "AllChecksPassed"))]
    assert sample(metrics, "agents", **asked) == 2
    assert sample(metrics, "agents", condition="Ready", status="True", reason="AllChecksPassed") == 1
    assert sample(metrics, "agents", condition="Progressing", status="False", reason="RolledOut") == 2
    agents.clear()
    assert sample(metrics, "agents", **asked) is None, "nobody is in a condition that nobody has"


def test_who_leads_and_what_waits() -> None:
    metrics = Metrics()
    assert (sample(metrics, "leading"), sample(metrics, "queue_length")) == (0, 0)
    waiting = [KEY, OTHER]
    metrics.start_leading(lambda: len(waiting), list)
    assert (sample(metrics, "leading"), sample(metrics, "queue_length")) == (1, 2)
    waiting.clear()
    assert sample(metrics, "queue_length") == 0


@pytest.mark.parametrize("outcome", ["refused", "error"])
def test_only_a_success_is_the_last_success(outcome: str) -> None:
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


def test_the_help_of_decisions_knows_every_reason() -> None:
    text = generate_latest(Metrics().registry).decode()
    (told,) = [line for line in text.splitlines() if line.startswith("# HELP avatar_agent_controller_scale_decisions")]
    assert told.endswith("by reason: Steady, MoreNeeded, FewerNeeded, DelayRunning, WorkersBusy, Stopped.")
